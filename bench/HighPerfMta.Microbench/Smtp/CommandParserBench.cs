using System.Buffers;
using BenchmarkDotNet.Attributes;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Microbench.Smtp;

/// <summary>Lines and commands of one session; only the addresses that outlive the command may allocate.</summary>
public class CommandParserBench
{
    private static readonly byte[] MailArguments = "FROM:<sender@example.com> SIZE=1024 BODY=8BITMIME"u8.ToArray();
    private static readonly byte[] RcptArguments = "TO:<recipient@example.net>"u8.ToArray();
    private static readonly ReadOnlySequence<byte> Whole = new("EHLO client.example.com\r\n"u8.ToArray());
    private static readonly ReadOnlySequence<byte> Split = Cut("MAIL FROM:<sender@example.com> SIZE=1024\r\n"u8, 17);
    private static readonly ReadOnlySequence<byte> Replies = new("250 2.1.0 Ok\r\n"u8.ToArray());

    private readonly byte[] _scratch = new byte[2048];

    [Benchmark]
    public int Line()
    {
        CommandParser.TryReadLine(Whole, 512, _scratch, out var line, out _);
        return (int)CommandParser.Parse(line).Verb;
    }

    [Benchmark]
    public int LineInTwoSegments()
    {
        CommandParser.TryReadLine(Split, 512, _scratch, out var line, out _);
        return (int)CommandParser.Parse(line).Verb;
    }

    /// <summary>The reverse-path that the envelope keeps is allocated.</summary>
    [Benchmark]
    public bool Mail() => CommandParser.ParseMail(MailArguments, out _) is null;

    /// <summary>The forward-path that the envelope keeps is allocated.</summary>
    [Benchmark]
    public bool Rcpt() => CommandParser.ParseRcpt(RcptArguments, smtpUtf8: false, out _) is null;

    /// <summary>A common reply of a peer.</summary>
    [Benchmark]
    public bool Reply() => ReplyParser.TryRead(Replies, out _, out _) == ReplyStatus.Reply;

    private static ReadOnlySequence<byte> Cut(ReadOnlySpan<byte> text, int at)
    {
        var first = new Segment(text[..at].ToArray());
        var last = first.Append(text[at..].ToArray());
        return new ReadOnlySequence<byte>(first, 0, last, last.Memory.Length);
    }

    private sealed class Segment : ReadOnlySequenceSegment<byte>
    {
        public Segment(ReadOnlyMemory<byte> memory) => Memory = memory;

        public Segment Append(ReadOnlyMemory<byte> memory)
        {
            var next = new Segment(memory) { RunningIndex = RunningIndex + Memory.Length };
            Next = next;
            return next;
        }
    }
}
