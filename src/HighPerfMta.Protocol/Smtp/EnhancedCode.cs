namespace HighPerfMta.Protocol.Smtp;

/// <summary>An enhanced mail system status code, class.subject.detail (RFC 3463 §2).</summary>
public readonly record struct EnhancedCode(byte Class, ushort Subject, ushort Detail)
{
    /// <summary>The value that stands for "no enhanced code was given".</summary>
    public static EnhancedCode None => default;

    /// <summary>True when the code carries no information.</summary>
    public bool IsNone => Class == 0;

    /// <summary>True for class 4, a persistent transient failure.</summary>
    public bool IsTransient => Class == 4;

    /// <summary>The dotted form, for example <c>5.7.1</c>; empty for <see cref="None"/>.</summary>
    public override string ToString() => IsNone ? "" : $"{Class}.{Subject}.{Detail}";
}
