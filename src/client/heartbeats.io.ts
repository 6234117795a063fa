/** Sends heartbeats on one stream at a time, and opens the next stream on another server. `lead` and `own` use it. */
import { type Duration, durationMs } from "@bufbuild/protobuf/wkt";
import { backoffMs } from "../lib/backoff.ts";
import { pause } from "../lib/stall-aware-time.io.ts";
import type { ClientCalls } from "./calls.ts";
import { isPassing, RequestError } from "./request-error.ts";

const RETRY = { baseMs: 100, maxMs: 2000 } as const;
/** A server that does not answer for this number of heartbeats is replaced by another one. */
const SILENT_HEARTBEATS = 3;

export interface Heartbeats<Request, Answer> {
  readonly open: (
    server: string,
    signal: AbortSignal,
  ) => { readonly send: (request: Request) => void; readonly answers: AsyncIterable<Answer> };
  /** Returns the next message. The server ends the stream after the last message. */
  readonly message: (isLast: boolean) => Request;
  /** Called when a stream is about to open. */
  readonly opening: (stream: HeartbeatStream) => void;
  readonly answered: (answer: Answer, stream: HeartbeatStream) => void;
  /** Whether the same server may accept a message that it has rejected with this error. */
  readonly mayRetry?: (error: RequestError) => boolean;
  /** Aborted when no other stream is to be opened. */
  readonly finished: AbortSignal;
}

/** A stream on one server. */
export interface HeartbeatStream {
  /** Sends a heartbeat now. */
  beat(): void;
  /** Sends the last message. Before the first answer, cancels the stream instead. */
  leave(): void;
}

/** Resolves when `finished` is aborted and the last stream has ended. Rejects with an error that a retry does not change. */
export async function sendHeartbeats<Request, Answer extends { readonly heartbeatInterval?: Duration | undefined }>(
  client: ClientCalls,
  { answered, mayRetry = () => false, finished, ...heartbeats }: Heartbeats<Request, Answer>,
): Promise<void> {
  let failureCount = 0;
  const succeeded = (answer: Answer, stream: HeartbeatStream) => {
    failureCount = 0;
    answered(answer, stream);
  };
  while (!finished.aborted) {
    const server = client.writeServer;
    try {
      await sendTo(server, client.timeoutMs, { ...heartbeats, answered: succeeded });
    } catch (error) {
      if (finished.aborted) return;
      if (!(error instanceof RequestError)) throw error;
      if (isPassing(error)) client.failOver(server, error);
      else if (!mayRetry(error)) throw error;
    }
    await pause(backoffMs(failureCount++, Math.random(), RETRY), finished);
  }
}

/** Sends heartbeats to one server until the stream ends. */
async function sendTo<Request, Answer extends { readonly heartbeatInterval?: Duration | undefined }>(
  server: string,
  timeoutMs: number,
  { open, message, opening, answered }: Omit<Heartbeats<Request, Answer>, "finished" | "mayRetry">,
): Promise<void> {
  const abort = new AbortController();
  const { send, answers } = open(server, abort.signal);
  const onSilence = () => abort.abort();
  let silence = setTimeout(onSilence, timeoutMs);
  let timer: NodeJS.Timeout | undefined;
  const stream = {
    beat: () => send(message(false)),
    leave: () => (timer === undefined ? abort.abort() : send(message(true))),
  };
  try {
    opening(stream);
    stream.beat();
    for await (const answer of answers) {
      const intervalMs = answer.heartbeatInterval === undefined ? timeoutMs : durationMs(answer.heartbeatInterval);
      clearTimeout(silence);
      silence = setTimeout(onSilence, intervalMs * SILENT_HEARTBEATS);
      timer ??= setInterval(stream.beat, intervalMs);
      answered(answer, stream);
    }
  } finally {
    clearTimeout(silence);
    clearInterval(timer);
  }
}
