/** The calls of a resolver to its upstream servers, nodes or other resolvers: bytes in and out, each with a deadline and within bounds. It decides nothing. */
import type { DescMethod } from "@bufbuild/protobuf";
import type { WholeName } from "../../catalog/query/instances.ts";
import { ConnectionPool, type PooledAnswer } from "../../grpc/client/pool.io.ts";
import type { AssemblyBounds } from "../../grpc/wire/message-reader.ts";
import { GrpcMetadata } from "../../grpc/wire/metadata.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { stallAwareDueMs } from "../../lib/stall-aware-time.io.ts";
import type { VersionPlace } from "../../policy/versions/version.ts";
import type { UpstreamFacts } from "../../resolver/upstreams.ts";
import type { UpstreamAccess } from "./credentials.io.ts";
import { UpstreamCredentials } from "./credentials.io.ts";
import { CONNECTION_LIMITS, dialUpstream, MAX_ANSWER_BYTES } from "./dial.io.ts";
import {
  fetchRequest,
  PATHS,
  PROBE_REQUEST,
  policyRequest,
  readFacts,
  refusalOf,
  summariesRequest,
  type WatchTarget,
  watchRequest,
} from "./upstream-codec.ts";
import { type StreamEvents, type UpstreamStreamHandle, UpstreamStreams } from "./upstream-streams.io.ts";

export interface UpstreamCallsOptions {
  /** This resolver, by the name that it adds to `via`. */
  readonly name: string;
  /** Servers that it may call. */
  readonly upstreamCount: number;
  /** Reads what it shows the servers. Throws an error that names the setting and the file. */
  readonly readAccess: () => UpstreamAccess;
  /** The token cannot be read any more; the one before stays in use. */
  readonly onStaleToken: (fault: string) => void;
  /** A stream is opened with another token than those that are open. */
  readonly onNewToken: () => void;
}

/** What came of a call. `isUnreached`: the server said nothing, and another one may be asked. */
export type UpstreamCallOutcome =
  | { readonly bytes: Uint8Array }
  | { readonly bytes: undefined; readonly error: WaymarkError; readonly isUnreached: boolean };

const PROBE_MS = 3000;
const FETCH_MS = 5000;
/** Fetches that run at once are at most as many as the machine allows. */
const MAX_FETCHES = 1000;
/** Most calls that are passed on at once. */
const MAX_PASSED = 1000;
const BUSY_RETRY_MS = 250;
const IDLE_MS = 30_000;
const SWEEP_MS = 250;
/** Bytes of answers that have not wholly arrived, over all connections for calls. */
const MAX_BUFFERED_BYTES = 64 * 1024 * 1024;

export class UpstreamCalls {
  readonly #options: UpstreamCallsOptions;
  readonly #credentials: UpstreamCredentials;
  readonly #streams: UpstreamStreams;
  /** For probes alone, so that a crowd of fetches makes no server look slow. */
  readonly #probes: ConnectionPool;
  readonly #calls: ConnectionPool;
  readonly #bounds: AssemblyBounds = { maxMessageBytes: MAX_ANSWER_BYTES, maxBufferedBytes: MAX_BUFFERED_BYTES, bufferedBytes: 0 };
  readonly #timer: NodeJS.Timeout;
  #passedCount = 0;
  #isClosed = false;

  /** Throws an error that names the setting and the file when a file of credentials cannot be used. */
  constructor(options: UpstreamCallsOptions) {
    this.#options = options;
    this.#credentials = new UpstreamCredentials(options.readAccess);
    const open = (address: string, timeoutMs: number, onLeaving: () => void) => this.#dial(address, timeoutMs, onLeaving);
    const { upstreamCount } = options;
    this.#streams = new UpstreamStreams((address, timeoutMs, onLeaving) => this.#dial(address, timeoutMs, onLeaving, true));
    this.#probes = new ConnectionPool({ maxConnections: upstreamCount, maxCalls: 2 * upstreamCount, idleMs: IDLE_MS }, open);
    // One more is for a node that an upstream names, where this resolver registers itself.
    this.#calls = new ConnectionPool({ maxConnections: upstreamCount + 1, maxCalls: MAX_FETCHES + MAX_PASSED, idleMs: IDLE_MS }, open);
    this.#timer = setInterval(() => this.#sweep(), SWEEP_MS).unref();
  }

  /**
   * Reads certificates and token again, for connections, calls and streams from now on. Returns whether they changed. Throws when a file cannot be used, and
   * keeps what was before.
   */
  reload(): boolean {
    const isChanged = this.#credentials.reload();
    if (!isChanged) return false;
    this.#streams.renew();
    this.#probes.renew();
    this.#calls.renew();
    return true;
  }

  /** Asks a server who it is. Rejects with a WaymarkError. */
  async probe(upstream: string): Promise<{ readonly latencyMs: number; readonly facts: UpstreamFacts }> {
    const startMonoMs = performance.now();
    const outcome = await this.#call(this.#probes, { upstream, path: PATHS.probe, message: PROBE_REQUEST, timeoutMs: PROBE_MS });
    if (outcome.bytes === undefined) throw outcome.error;
    return { latencyMs: performance.now() - startMonoMs, facts: readFacts(outcome.bytes) };
  }

  /** Asks for a page of the entries of a name. Rejects with a WaymarkError. */
  async fetch(upstream: string, name: WholeName, pageToken: string): Promise<Uint8Array> {
    const message = fetchRequest(name, pageToken, [this.#options.name]);
    const outcome = await this.#call(this.#calls, { upstream, path: PATHS.fetch, message, timeoutMs: FETCH_MS });
    if (outcome.bytes === undefined) throw outcome.error;
    return outcome.bytes;
  }

  /** Passes a call on. Never rejects, but for a bug. */
  async unary(upstream: string, { parent, name }: DescMethod, message: Uint8Array, timeoutMs: number): Promise<UpstreamCallOutcome> {
    if (this.#passedCount >= MAX_PASSED)
      return {
        bytes: undefined,
        error: new WaymarkError("not_ready", `this resolver passes on ${MAX_PASSED} calls at once already; try again`, {
          retryMs: BUSY_RETRY_MS,
        }),
        isUnreached: false,
      };
    this.#passedCount += 1;
    try {
      return await this.#call(this.#calls, { upstream, path: `/${parent.typeName}/${name}`, message, timeoutMs });
    } finally {
      this.#passedCount -= 1;
    }
  }

  /** Follows what is below the prefixes; an empty text stands for all namespaces. With an empty cursor it begins with a snapshot. */
  openWatch(upstream: string, place: WatchTarget, events: StreamEvents): UpstreamStreamHandle {
    return this.#openStream(upstream, PATHS.watch, watchRequest({ ...place, via: [this.#options.name] }), events);
  }

  /** Follows the summaries below the prefixes, as `openWatch` does entries. */
  openSummaries(upstream: string, place: WatchTarget, events: StreamEvents): UpstreamStreamHandle {
    return this.#openStream(upstream, PATHS.summaries, summariesRequest({ ...place, via: [this.#options.name] }), events);
  }

  /** `known`: versions that the server need not send. */
  openPolicy(upstream: string, known: readonly VersionPlace[], events: StreamEvents): UpstreamStreamHandle {
    return this.#openStream(upstream, PATHS.policy, policyRequest(known, [this.#options.name]), events);
  }

  /** Cuts what is open; streams tell nothing any more, and calls fail. Idempotent. */
  close(): void {
    this.#isClosed = true;
    clearInterval(this.#timer);
    this.#streams.close();
    this.#probes.renew();
    this.#calls.renew();
  }

  #openStream(upstream: string, path: string, message: Uint8Array, events: StreamEvents): UpstreamStreamHandle {
    const before = this.#credentials.token;
    const fault = this.#credentials.rereadToken();
    if (fault !== undefined) this.#options.onStaleToken(fault);
    if (before !== this.#credentials.token) this.#options.onNewToken();
    return this.#streams.open({ upstream, path, message, metadata: this.#metadata() }, events);
  }

  #call(
    pool: ConnectionPool,
    {
      upstream,
      ...request
    }: { readonly upstream: string; readonly path: string; readonly message: Uint8Array; readonly timeoutMs: number },
  ): Promise<UpstreamCallOutcome> {
    if (this.#isClosed) return Promise.resolve({ bytes: undefined, error: closed(), isUnreached: false });
    return new Promise((resolve) => {
      pool.call({ address: upstream, metadata: this.#metadata(), ...request }, (answer) => resolve(outcomeOf(upstream, answer)));
    });
  }

  #metadata(): GrpcMetadata | undefined {
    const { token } = this.#credentials;
    return token === undefined ? undefined : new GrpcMetadata().add("authorization", `Bearer ${token}`);
  }

  #dial(address: string, timeoutMs: number, onLeaving: () => void, measuresDelay = false) {
    const connection = { limits: CONNECTION_LIMITS, bounds: this.#bounds, onLeaving, measuresDelay };
    return dialUpstream({ address, credentials: this.#credentials, timeoutMs, connection });
  }

  #sweep(): void {
    const dueMs = stallAwareDueMs();
    this.#probes.sweep(dueMs);
    this.#calls.sweep(dueMs);
    this.#streams.sweep();
  }
}

function outcomeOf(upstream: string, { message, status, isFromServer }: PooledAnswer): UpstreamCallOutcome {
  if (message !== undefined) return { bytes: message };
  return { bytes: undefined, error: refusalOf(upstream, status, isFromServer), isUnreached: !isFromServer };
}

function closed(): WaymarkError {
  return new WaymarkError("draining", "this resolver is stopping");
}
