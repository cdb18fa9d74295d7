using System.Reflection;
using System.Reflection.Emit;
using System.Reflection.Metadata;
using System.Reflection.Metadata.Ecma335;
using System.Reflection.PortableExecutable;

namespace HighPerfMta.Tests.Architecture;

/// <summary>Holds the direction of rooms and projects: the table of docs/ARCHITECTURE.md.</summary>
public class RoomDirectionTests
{
    // A room and the rooms of the engine it may use. Delivery and Reports know each other's contract only one way: Delivery uses IReports.
    private static readonly Dictionary<string, string[]> Rooms = new()
    {
        ["Observability"] = [],
        ["Auth"] = ["Observability"],
        ["Dns"] = ["Observability"],
        ["Net"] = ["Observability"],
        ["Routing"] = ["Dns"],
        ["Intake"] = ["Observability"],
        ["Smtp"] = ["Observability", "Auth", "Net", "Routing", "Intake"],
        ["Reports"] = ["Observability", "Intake"],
        ["Delivery"] = ["Observability", "Dns", "Net", "Routing", "Reports"],
        ["Control"] = ["Observability", "Dns", "Net", "Routing", "Intake", "Smtp", "Reports", "Delivery"],
    };

    [Fact]
    public void Every_room_of_the_engine_is_in_the_table_and_uses_only_rooms_it_may()
    {
        const string root = "HighPerfMta.Engine.";
        List<string> breaches = [];
        foreach ((string user, string used) in NamespaceUses(Engine.Location))
        {
            if (!user.StartsWith(root, StringComparison.Ordinal) || !used.StartsWith(root, StringComparison.Ordinal))
            {
                continue;
            }

            string from = user[root.Length..].Split('.')[0];
            string to = used[root.Length..].Split('.')[0];
            if (from != to && !(Rooms.TryGetValue(from, out string[]? may) && may.Contains(to)))
            {
                breaches.Add($"{from} uses {to}");
            }
        }

        Assert.Empty(breaches.Distinct());
    }

    [Fact]
    public void Projects_reference_only_what_lies_below_them()
    {
        Assert.Empty(OwnReferences(Protocol));
        Assert.Equal(["HighPerfMta.Protocol"], OwnReferences(Queue));
        Assert.Equal(["HighPerfMta.Protocol", "HighPerfMta.Queue"], OwnReferences(Engine));
    }

    [Fact]
    public void Only_the_queue_knows_the_append_engine()
    {
        Assert.Contains(Queue.GetReferencedAssemblies(), static a => a.Name == "FASTER.core");
        Assert.DoesNotContain(Engine.GetReferencedAssemblies(), static a => a.Name == "FASTER.core");
        Assert.DoesNotContain(Protocol.GetReferencedAssemblies(), static a => a.Name == "FASTER.core");
    }

    [Fact]
    public void Protocol_has_no_sockets_files_or_logging()
    {
        string[] forbidden = ["System.Net.Sockets", "System.IO.FileSystem", "Microsoft.Extensions.Logging.Abstractions"];
        Assert.DoesNotContain(Protocol.GetReferencedAssemblies(), a => forbidden.Contains(a.Name));
    }

    private static Assembly Protocol => typeof(global::HighPerfMta.Protocol.Smtp.SmtpReply).Assembly;

    private static Assembly Queue => typeof(global::HighPerfMta.Queue.IMailQueue).Assembly;

    private static Assembly Engine => typeof(global::HighPerfMta.Engine.Intake.IIntake).Assembly;

    private static string[] OwnReferences(Assembly assembly) =>
    [
        .. assembly.GetReferencedAssemblies().Select(static a => a.Name!).Where(static n => n.StartsWith("HighPerfMta.", StringComparison.Ordinal)).Order(),
    ];

    /// <summary>Pairs (namespace of a type, namespace of a type or member it mentions), from the assembly's metadata: signatures and method bodies.</summary>
    private static HashSet<(string User, string Used)> NamespaceUses(string path)
    {
        using FileStream file = File.OpenRead(path);
        using PEReader image = new(file);
        MetadataReader metadata = image.GetMetadataReader();
        HashSet<(string, string)> uses = [];
        foreach (TypeDefinitionHandle handle in metadata.TypeDefinitions)
        {
            string user = NamespaceOf(metadata, handle);
            foreach (MethodDefinitionHandle methodHandle in metadata.GetTypeDefinition(handle).GetMethods())
            {
                foreach (TypeDefinitionHandle used in TypesInBody(image, metadata, metadata.GetMethodDefinition(methodHandle)))
                {
                    uses.Add((user, NamespaceOf(metadata, used)));
                }
            }

            SignatureTypes signatures = new();
            foreach (FieldDefinitionHandle field in metadata.GetTypeDefinition(handle).GetFields())
            {
                metadata.GetFieldDefinition(field).DecodeSignature(signatures, null);
            }

            foreach (MethodDefinitionHandle method in metadata.GetTypeDefinition(handle).GetMethods())
            {
                metadata.GetMethodDefinition(method).DecodeSignature(signatures, null);
            }

            foreach (TypeDefinitionHandle used in signatures.Seen)
            {
                uses.Add((user, NamespaceOf(metadata, used)));
            }
        }

        return uses;
    }

    private static string NamespaceOf(MetadataReader metadata, TypeDefinitionHandle handle)
    {
        TypeDefinition type = metadata.GetTypeDefinition(handle);
        while (type.IsNested)
        {
            type = metadata.GetTypeDefinition(type.GetDeclaringType());
        }

        return metadata.GetString(type.Namespace);
    }

    /// <summary>The types of this assembly that the tokens in a method body name or belong to.</summary>
    private static IEnumerable<TypeDefinitionHandle> TypesInBody(PEReader image, MetadataReader metadata, MethodDefinition method)
    {
        if (method.RelativeVirtualAddress == 0)
        {
            yield break;
        }

        byte[] code = image.GetMethodBody(method.RelativeVirtualAddress).GetILBytes() ?? [];
        for (int i = 0; i < code.Length;)
        {
            OpCode op = code[i] == 0xFE ? OpCodesByValue[(short)(0xFE00 | code[++i])] : OpCodesByValue[code[i]];
            i++;
            if (op.OperandType is OperandType.InlineMethod or OperandType.InlineField or OperandType.InlineType or OperandType.InlineTok
                && TypeOfToken(metadata, MetadataTokens.EntityHandle(BitConverter.ToInt32(code, i))) is { } type)
            {
                yield return type;
            }

            i += OperandSize(op, code, i);
        }
    }

    private static TypeDefinitionHandle? TypeOfToken(MetadataReader metadata, EntityHandle handle) => handle.Kind switch
    {
        HandleKind.TypeDefinition => (TypeDefinitionHandle)handle,
        HandleKind.MethodDefinition => metadata.GetMethodDefinition((MethodDefinitionHandle)handle).GetDeclaringType(),
        HandleKind.FieldDefinition => metadata.GetFieldDefinition((FieldDefinitionHandle)handle).GetDeclaringType(),
        HandleKind.MethodSpecification => TypeOfToken(metadata, metadata.GetMethodSpecification((MethodSpecificationHandle)handle).Method),
        _ => null,
    };

    private static int OperandSize(OpCode op, byte[] code, int at) => op.OperandType switch
    {
        OperandType.InlineNone => 0,
        OperandType.ShortInlineBrTarget or OperandType.ShortInlineI or OperandType.ShortInlineVar => 1,
        OperandType.InlineVar => 2,
        OperandType.InlineI8 or OperandType.InlineR => 8,
        OperandType.InlineSwitch => 4 + (4 * BitConverter.ToInt32(code, at)),
        _ => 4,
    };

    private static readonly Dictionary<short, OpCode> OpCodesByValue = typeof(OpCodes).GetFields(BindingFlags.Public | BindingFlags.Static)
        .Select(static f => (OpCode)f.GetValue(null)!)
        .ToDictionary(static op => op.Value);

    private sealed class SignatureTypes : ISignatureTypeProvider<int, object?>
    {
        public HashSet<TypeDefinitionHandle> Seen { get; } = [];

        public int GetTypeFromDefinition(MetadataReader reader, TypeDefinitionHandle handle, byte rawTypeKind)
        {
            Seen.Add(handle);
            return 0;
        }

        public int GetTypeFromSpecification(MetadataReader reader, object? genericContext, TypeSpecificationHandle handle, byte rawTypeKind) =>
            reader.GetTypeSpecification(handle).DecodeSignature(this, genericContext);

        public int GetArrayType(int elementType, ArrayShape shape) => 0;

        public int GetByReferenceType(int elementType) => 0;

        public int GetFunctionPointerType(MethodSignature<int> signature) => 0;

        public int GetGenericInstantiation(int genericType, System.Collections.Immutable.ImmutableArray<int> typeArguments) => 0;

        public int GetGenericMethodParameter(object? genericContext, int index) => 0;

        public int GetGenericTypeParameter(object? genericContext, int index) => 0;

        public int GetModifiedType(int modifier, int unmodifiedType, bool isRequired) => 0;

        public int GetPinnedType(int elementType) => 0;

        public int GetPointerType(int elementType) => 0;

        public int GetPrimitiveType(PrimitiveTypeCode typeCode) => 0;

        public int GetSZArrayType(int elementType) => 0;

        public int GetTypeFromReference(MetadataReader reader, TypeReferenceHandle handle, byte rawTypeKind) => 0;
    }
}
