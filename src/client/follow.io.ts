/** `follow`: a watch that survives breaks, restarts and the loss of a server. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type CatalogWatchRequestSchema, DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { type FollowEvent, Follower } from "../reading/follow.ts";
import type { Calls } from "./calls.ts";
import { pause } from "./pause.io.ts";
import { RequestError } from "./request-error.ts";

export interface FollowOptions {
  /** Ends the following. */
  readonly signal: AbortSignal;
  /** Called when a stream broke and another will be tried; for logs. */
  readonly onBreak?: (error: Error, waitMs: number) => void;
  /** Uniform in [0, 1), for jitter. */
  readonly chance?: () => number;
  /** Wait for a server that cannot be reached at the first try. By default that is an error. */
  readonly waitsForServer?: boolean;
  /** Tells removals of keys too that were never told, or are gone already. By default these are left out. */
  readonly tellsUnknown?: boolean;
}

/**
 * Tells every change of the matching entries, first those that are there now. It resumes by cursor after breaks, at the next server when
 * one is away. Each change is told once. Throws `RequestError` when the watch is refused.
 */
export async function* follow(
  client: Calls,
  request: MessageInitShape<typeof CatalogWatchRequestSchema>,
  options: FollowOptions,
): AsyncIterable<FollowEvent> {
  const { signal, onBreak, chance = Math.random, waitsForServer = false, tellsUnknown = false } = options;
  const follower = new Follower(request.cursor ?? "", { tellsUnknown });
  let hasOpened = false;
  while (!signal.aborted) {
    const { server } = client;
    let failure: Error = new Error("the server ended the stream");
    const cursor = follower.open(server);
    try {
      for await (const message of client.stream(DiscoveryService.method.catalogWatch, { ...request, cursor }, { signal })) {
        hasOpened = true;
        const events: FollowEvent[] = [];
        follower.message(message, events);
        yield* events;
        if (follower.isDoubtful) break;
      }
      if (follower.isDoubtful) continue;
    } catch (error) {
      if (signal.aborted) return;
      if (!isPassing(error) || (!hasOpened && !waitsForServer && client.servers.length === 1)) throw error;
      failure = error;
    }
    if (signal.aborted) return;
    client.failOver(server);
    const error = failure instanceof RequestError ? failure : undefined;
    const waitMs = follower.broken(chance(), { retryMs: error?.facts.retryMs, isAway: error?.isAway ?? true });
    onBreak?.(failure, waitMs);
    await pause(waitMs, signal);
  }
}

/** Failures after which another try may help: the server is away, restarts, drains or cut the stream. */
function isPassing(error: unknown): error is RequestError {
  const passing = ["UNKNOWN", "INTERNAL", "CANCELLED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"];
  return error instanceof RequestError && (error.isAway || passing.includes(error.facts.code));
}
