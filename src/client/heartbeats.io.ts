/** Sends heartbeats on one stream at a time, and opens the next stream on another server. `lead` and `own` use it. */
import { type Duration, durationMs } from "@bufbuild/protobuf/wkt";
import { backoffMs } from "../lib/backoff.ts";
import { pause } from "../lib/stall-aware-time.io.ts";
import type { ClientCalls } from "./calls.ts";
import { isPassing, RequestError } from "./request-error.ts";

const RETRY = { baseMs: 100, maxMs: 2000 } as const;
/** A server that does not answer for this number of heartbeats is replaced by another one. */
const SILENT_HEARTBEATS = 3;

/** A stream on one server. */
export interface HeartbeatStream {
  /** Sends a heartbeat now. */
  beat(): void;
  /** Sends the last message, after which the server ends the stream. Before the first answer, cancels the stream instead. */
  leave(): void;
}

/**
 * Yields each stream before its first message, and then with each of its answers. Ends when `finished` is aborted and the last stream has ended. Throws
 * an error that a retry does not change. If the server suggests a retry, retries until there was no answer for the client's `timeoutMs`.
 */
export async function* heartbeats<Request, Answer extends { readonly heartbeatInterval?: Duration | undefined }>(
  client: ClientCalls,
  open: (server: string, signal: AbortSignal) => { readonly send: (request: Request) => void; readonly answers: AsyncIterable<Answer> },
  message: (isLast: boolean) => Request,
  finished: AbortSignal,
): AsyncIterable<{ readonly stream: HeartbeatStream; readonly answer?: Answer }> {
  let answeredMs = performance.now();
  for (let failureCount = 0; !finished.aborted; failureCount++) {
    const server = client.writeServer;
    const abort = new AbortController();
    const onSilence = () => abort.abort();
    let silence = setTimeout(onSilence, client.timeoutMs);
    let timer: NodeJS.Timeout | undefined;
    try {
      const { send, answers } = open(server, abort.signal);
      const beat = () => send(message(false));
      const stream = { beat, leave: () => (timer === undefined ? abort.abort() : send(message(true))) };
      yield { stream };
      beat();
      for await (const answer of answers) {
        const intervalMs = answer.heartbeatInterval === undefined ? client.timeoutMs : durationMs(answer.heartbeatInterval);
        clearTimeout(silence);
        silence = setTimeout(onSilence, intervalMs * SILENT_HEARTBEATS);
        timer ??= setInterval(beat, intervalMs);
        failureCount = 0;
        answeredMs = performance.now();
        yield { stream, answer };
      }
    } catch (error) {
      if (finished.aborted) return;
      if (!(error instanceof RequestError)) throw error;
      if (isPassing(error)) client.failOver(server, error);
      else if (error.facts.retryMs === undefined || performance.now() - answeredMs > client.timeoutMs) throw error;
    } finally {
      clearTimeout(silence);
      clearInterval(timer);
    }
    await pause(backoffMs(failureCount, Math.random(), RETRY), finished);
  }
}
