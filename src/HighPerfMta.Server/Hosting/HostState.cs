using HighPerfMta.Engine.Control;

namespace HighPerfMta.Server.Hosting;

/// <summary>What the web side knows of the server while it starts, runs and stops.</summary>
internal sealed class HostState
{
    private volatile IControl? _control;
    private volatile bool _ready;

    /// <summary>Null while the queue is being opened.</summary>
    public IControl? Control
    {
        get => _control;
        set => _control = value;
    }

    /// <summary>Mail is accepted.</summary>
    public bool Ready
    {
        get => _ready;
        set => _ready = value;
    }
}
