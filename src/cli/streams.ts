/** Follows a stream over interruptions. */
import { RequestError } from "../client/request-error.ts";
import { sleep } from "./environment.ts";
import type { VerbContext } from "./table/verb.ts";

const RETRY_MS = 1000;

/**
 * Yields the messages of a stream until the command is interrupted. When the stream ends, opens it again, on another server if the last one is
 * unreachable. `open` resumes after the last message.
 */
export async function* followStream<M>(
  { environment, out, client }: Pick<VerbContext, "client" | "environment" | "out">,
  open: () => AsyncIterable<M>,
): AsyncGenerator<M, undefined> {
  while (!environment.interrupt.aborted) {
    const { server } = client();
    try {
      for await (const message of open()) {
        out.begun();
        yield message;
      }
      out.note("the server ended the stream; reconnecting");
    } catch (error) {
      if (environment.interrupt.aborted) break;
      if (!(error instanceof RequestError && error.isAway)) throw error;
      out.note(`watch interrupted: ${error.message}; reconnecting`);
      client().failOver(server);
    }
    await sleep(environment, RETRY_MS);
  }
}
