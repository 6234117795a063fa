/**
 * Sends requests about other clusters to servers that can answer them, and caches the answers. If the client reads from a resolver, requests are sent
 * to it first.
 */
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { DiscoveryService } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { BoundedMap } from "../../lib/bounded-map.ts";
import type { CallOptions } from "../calls.ts";
import type { Client } from "../client.ts";
import { RequestError } from "../request-error.ts";

/** Status codes of a server that cannot provide the answer. */
const HAS_NONE: readonly string[] = ["NOT_FOUND", "UNIMPLEMENTED", "FAILED_PRECONDITION"];

export interface AnswerFrom<T> {
  readonly answer: T;
  /** The server that answered, as `host:port`. */
  readonly from: string;
}

/** Returns the first non-empty answer, or undefined if there is none. Throws a `RequestError`. */
export async function askedOf<I extends DescMessage, O extends DescMessage>(
  client: Client,
  method: DescMethodUnary<I, O>,
  request: MessageInitShape<I>,
  options: CallOptions = {},
): Promise<AnswerFrom<MessageShape<O>> | undefined> {
  const answer = await client.call(method, request, options).catch(noneIfAbsent);
  const { server, writeServer } = client;
  if (answer !== undefined) return { answer, from: server };
  if (server === writeServer) return undefined;
  const second = await client.callAt(writeServer, method, request, options).catch(noneIfAbsent);
  return second && { answer: second, from: writeServer };
}

function noneIfAbsent(error: unknown): undefined {
  if (!(error instanceof RequestError && HAS_NONE.includes(error.facts.code))) throw error;
  return undefined;
}

/** The cluster ID of the client's servers, requested once. Empty if the client is not allowed to read it. */
export class OwnCluster {
  readonly #client: Client;
  #asking: Promise<string> | undefined;

  constructor(client: Client) {
    this.#client = client;
  }

  id(): Promise<string> {
    this.#asking ??= this.#ask().catch((error: unknown) => {
      this.#asking = undefined;
      throw error;
    });
    return this.#asking;
  }

  async #ask(): Promise<string> {
    try {
      return (await this.#client.call(DiscoveryService.method.serverInfo, {})).clusterId;
    } catch (error) {
      if (error instanceof RequestError && !error.isAway) return "";
      throw error;
    }
  }
}

/** Maximum number of cached answers of each kind. The least recently used answer is dropped first. */
const MAX_KEPT = 1000;

interface CacheRow<T> {
  readonly value: T;
  readonly untilMonoMs: number;
}

/** A cache of answers, each with its own expiry time. */
export class AnswerCache<T> {
  /** Answers by id, with the least recently used first. */
  readonly #rows = new BoundedMap<string, CacheRow<T>>(MAX_KEPT);

  /** Returns the last answer, and whether it is still fresh. */
  find(id: string, monoMs: number): { readonly value: T; readonly isFresh: boolean } | undefined {
    const row = this.#rows.get(id);
    if (row === undefined) return undefined;
    this.#rows.set(id, row);
    return { value: row.value, isFresh: monoMs < row.untilMonoMs };
  }

  set(id: string, value: T, untilMonoMs: number): void {
    this.#rows.set(id, { value, untilMonoMs });
  }
}
