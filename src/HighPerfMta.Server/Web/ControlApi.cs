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
    public const string WhyPath = "/control/why";
    public const string FlushPath = "/control/flush-events";

    /// <summary>Response header of lists made while the queue is still being read.</summary>
    public const string LoadingHeader = "Hpmta-Loading";

    private static readonly byte[] NewLine = "\n"u8.ToArray();

    public static void Map(WebApplication application, IControl control, EventLogWriter events)
    {
        application.MapPost(ListPath, Guarded(context => ListAsync(context, control)));
        application.MapPost(CountPath, Guarded(async context =>
        {
            CountBody body = await ReadAsync(context, ControlJson.Default.CountBody);
            await WriteAsync(context, await control.CountAsync(body.Filter.ToFilter(), body.By, context.RequestAborted));
        }));
        application.MapPost(ActPath, Guarded(context => ActAsync(context, control)));
        application.MapPost(FlushPath, Guarded(async _ => await events.FlushAsync()));
        application.MapGet(StatusPath, Guarded(context => WriteAsync(context, control.Status())));
        application.MapGet(MessagePath + "{id}", Guarded(async context =>
        {
            JsonObject? message = await control.ShowAsync(IdOf(context), context.RequestAborted);
            await (message is null ? NotQueuedAsync(context, control) : WriteAsync(context, message));
        }));
        application.MapGet(MessagePath + "{id}/raw", Guarded(context => RawAsync(context, control)));
        application.MapGet(RoutePath, Guarded(async context =>
            await WriteAsync(context, await control.RouteAsync(context.Request.Query["address"].ToString(), context.RequestAborted))));
        application.MapGet(WhyPath, Guarded(context => WhyAsync(context, control)));
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
        LogUnavailableException or RecordUnreadableException or QueueLoadingException => StatusCodes.Status503ServiceUnavailable,
        OperationCanceledException => null,
        _ => StatusCodes.Status500InternalServerError,
    };

    private static async Task ListAsync(HttpContext context, IControl control)
    {
        FilterBody body = await ReadAsync(context, ControlJson.Default.FilterBody);
        IAsyncEnumerable<JsonObject> messages = control.List(body.ToFilter(), context.RequestAborted);
        context.Response.ContentType = "application/jsonl";
        if (control.Loading)
        {
            context.Response.Headers[LoadingHeader] = "true";
        }

        await using Utf8JsonWriter json = new(context.Response.BodyWriter);
        await foreach (JsonObject message in messages)
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
        string? name = Enum.GetNames<QueueAction>().FirstOrDefault(n => n.Equals(body.Action, StringComparison.OrdinalIgnoreCase));
        if (name is null)
        {
            throw new FilterException($"action: \"{body.Action}\" is not one of {string.Join(", ", Enum.GetNames<QueueAction>()).ToLowerInvariant()}");
        }

        QueueActed acted = await control.ActAsync(Enum.Parse<QueueAction>(name), body.Filter.ToFilter(), body.To, body.DryRun, context.RequestAborted);
        int? unreadable = acted.Unreadable > 0 ? acted.Unreadable : null;
        await context.Response.WriteAsJsonAsync(new ActResult(acted.Messages, acted.Recipients, body.DryRun, unreadable), ControlJson.Default.ActResult);
    }

    private static async Task WhyAsync(HttpContext context, IControl control)
    {
        string subject = context.Request.Query["of"].ToString();
        if (await control.WhyAsync(subject, context.RequestAborted) is { } why)
        {
            await WriteAsync(context, why);
            return;
        }

        await NotFoundAsync(context, control, $"nothing of {subject} is queued, and nothing is known of its site; hpmta route ADDRESS tells how mail would go");
    }

    private static async Task RawAsync(HttpContext context, IControl control)
    {
        using BodyReader? body = await control.OpenBodyAsync(IdOf(context), context.RequestAborted);
        if (body is null)
        {
            await NotQueuedAsync(context, control);
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

    private static Task NotQueuedAsync(HttpContext context, IControl control) =>
        NotFoundAsync(context, control, "no such message is queued; hpmta trace ID tells what became of it");

    private static Task NotFoundAsync(HttpContext context, IControl control, string message)
    {
        context.Response.StatusCode = StatusCodes.Status404NotFound;
        string told = control.Loading ? "not found yet: " + new QueueLoadingException().Message : message;
        return context.Response.WriteAsJsonAsync(new ErrorResult(told), ControlJson.Default.ErrorResult);
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
