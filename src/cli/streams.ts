/** Follows a stream over interruptions. */
import { RequestError } from "../client/request-error.ts";
import { sleep } from "./environment.ts";
import type { VerbContext } from "./table/verb.ts";

const RETRY_MS = 1000;

/**
 * Yields the messages of a stream until the command is interrupted. When the stream ends, opens it again, on another server if the last one is
 * unreachable. `open` resumes after the last message. If it always calls the same node, `node` names this node.
 */
export async function* followStream<M>(
  { environment, out, client }: Pick<VerbContext, "client" | "environment" | "out">,
  open: () => AsyncIterable<M>,
  node?: string,
): AsyncGenerator<M, undefined> {
  const of = node === undefined ? "" : ` of ${node}`;
  while (!environment.interrupt.aborted) {
    const { server } = client();
    try {
      for await (const message of open()) {
        out.begun();
        yield message;
      }
      if (!environment.interrupt.aborted) out.note(`the server ended the stream${of}; reconnecting`);
    } catch (error) {
      if (environment.interrupt.aborted) break;
      if (!(error instanceof RequestError && error.isAway)) throw error;
      out.note(`watch${of} interrupted: ${error.message}; reconnecting`);
      if (node === undefined) client().failOver(server);
    }
    await sleep(environment, RETRY_MS);
  }
}
