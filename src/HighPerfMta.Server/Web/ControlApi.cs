using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using HighPerfMta.Engine.Control;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;

namespace HighPerfMta.Server.Web;

/// <summary>The commands' side of <see cref="IControl"/> over HTTP on the admin socket. Lists are one JSON object a line.</summary>
internal static class ControlApi
{
    public const string ListPath = "/control/list";
    public const string CountPath = "/control/count";
    public const string ActPath = "/control/act";
    public const string StatusPath = "/control/status";
    public const string MessagePath = "/control/message/";
    public const string RoutePath = "/control/route";
    public const string FlushPath = "/control/flush-events";

    private static readonly byte[] NewLine = "\n"u8.ToArray();

    public static void Map(WebApplication application, IControl control, EventLogWriter events)
    {
        application.MapPost(ListPath, Guarded(context => ListAsync(context, control)));
        application.MapPost(CountPath, Guarded(async context =>
        {
            CountBody body = await ReadAsync(context, ControlJson.Default.CountBody);
            await WriteAsync(context, control.Count(body.Filter.ToFilter(), body.By));
        }));
        application.MapPost(ActPath, Guarded(context => ActAsync(context, control)));
        application.MapPost(FlushPath, Guarded(async _ => await events.FlushAsync()));
        application.MapGet(StatusPath, Guarded(context => WriteAsync(context, control.Status())));
        application.MapGet(MessagePath + "{id}", Guarded(context =>
            control.Show(IdOf(context)) is { } message ? WriteAsync(context, message) : NotQueuedAsync(context)));
        application.MapGet(MessagePath + "{id}/raw", Guarded(context => RawAsync(context, control)));
        application.MapGet(RoutePath, Guarded(async context =>
            await WriteAsync(context, await control.RouteAsync(context.Request.Query["address"].ToString(), context.RequestAborted))));
    }

    /// <summary>Refusals and known troubles become a status and one line of text.</summary>
    private static RequestDelegate Guarded(Func<HttpContext, Task> handle) => async context =>
    {
        try
        {
            await handle(context);
        }
        catch (Exception e) when (!context.Response.HasStarted && StatusOf(e) is { } status)
        {
            context.Response.StatusCode = status;
            await context.Response.WriteAsJsonAsync(new ErrorResult(e.Message), ControlJson.Default.ErrorResult);
        }
    };

    private static int? StatusOf(Exception error) => error switch
    {
        FilterException or JsonException or BadHttpRequestException => StatusCodes.Status400BadRequest,
        LogUnavailableException or RecordUnreadableException => StatusCodes.Status503ServiceUnavailable,
        OperationCanceledException => null,
        _ => StatusCodes.Status500InternalServerError,
    };

    private static async Task ListAsync(HttpContext context, IControl control)
    {
        FilterBody body = await ReadAsync(context, ControlJson.Default.FilterBody);
        context.Response.ContentType = "application/jsonl";
        await using Utf8JsonWriter json = new(context.Response.BodyWriter);
        foreach (JsonObject message in control.List(body.ToFilter()))
        {
            message.WriteTo(json);
            await json.FlushAsync(context.RequestAborted);
            json.Reset();
            await context.Response.BodyWriter.WriteAsync(NewLine, context.RequestAborted);
        }
    }

    private static async Task ActAsync(HttpContext context, IControl control)
    {
        ActBody body = await ReadAsync(context, ControlJson.Default.ActBody);
        if (!Enum.TryParse(body.Action, ignoreCase: true, out QueueAction action))
        {
            throw new FilterException($"action: \"{body.Action}\" is not one of retry, hold, release, drop");
        }

        (int messages, int recipients) = await control.ActAsync(action, body.Filter.ToFilter(), body.DryRun, context.RequestAborted);
        await context.Response.WriteAsJsonAsync(new ActResult(messages, recipients, body.DryRun), ControlJson.Default.ActResult);
    }

    private static async Task RawAsync(HttpContext context, IControl control)
    {
        using BodyReader? body = control.OpenBody(IdOf(context));
        if (body is null)
        {
            await NotQueuedAsync(context);
            return;
        }

        context.Response.ContentType = "message/rfc822";
        while (await body.ReadAsync(context.RequestAborted) is { IsEmpty: false } piece)
        {
            await context.Response.BodyWriter.WriteAsync(piece, context.RequestAborted);
        }
    }

    private static MessageId IdOf(HttpContext context)
    {
        string text = Convert.ToString(context.Request.RouteValues["id"], CultureInfo.InvariantCulture) ?? "";
        return MessageId.TryParse(text, out MessageId id) ? id : throw new FilterException($"id: \"{text}\" is no queue id");
    }

    private static Task NotQueuedAsync(HttpContext context)
    {
        context.Response.StatusCode = StatusCodes.Status404NotFound;
        return context.Response.WriteAsJsonAsync(new ErrorResult("no such message is queued; hpmta trace ID tells what became of it"), ControlJson.Default.ErrorResult);
    }

    private static async ValueTask<T> ReadAsync<T>(HttpContext context, JsonTypeInfo<T> type) =>
        await context.Request.ReadFromJsonAsync(type, context.RequestAborted) ?? throw new FilterException("the request is empty");

    private static async Task WriteAsync(HttpContext context, JsonObject answer)
    {
        context.Response.ContentType = "application/json";
        await using Utf8JsonWriter json = new(context.Response.BodyWriter);
        answer.WriteTo(json);
        await json.FlushAsync(context.RequestAborted);
    }
}
