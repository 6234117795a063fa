/**
 * Makes the calls of a resolver to its upstream servers, which are nodes or other resolvers. Sends and receives bytes, with a deadline and size
 * limits for each call, but does not make any decisions.
 */
import type { DescMethod } from "@bufbuild/protobuf";
import type { WholeName } from "../../catalog/query/instances.ts";
import type { ClientLimits } from "../../grpc/client/connection.io.ts";
import { dialServer } from "../../grpc/client/dial.io.ts";
import { ConnectionPool, type PooledAnswer } from "../../grpc/client/pool.io.ts";
import type { AssemblyBounds } from "../../grpc/wire/message-reader.ts";
import { GrpcMetadata } from "../../grpc/wire/metadata.ts";
import { GRPC_PORT } from "../../lib/addresses.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { stallAwareDueMs } from "../../lib/stall-aware-time.io.ts";
import type { VersionPlace } from "../../policy/versions/version.ts";
import type { UpstreamFacts } from "../../resolver/upstreams.ts";
import type { UpstreamAccess } from "./credentials.io.ts";
import { UpstreamCredentials } from "./credentials.io.ts";
import {
  fetchRequest,
  PATHS,
  PROBE_REQUEST,
  policyRequest,
  readFacts,
  refusalOf,
  summariesRequest,
  UPSTREAM_REMEDIES,
  type WatchTarget,
  watchRequest,
} from "./upstream-codec.ts";
import { type StreamEvents, type UpstreamStreamHandle, UpstreamStreams } from "./upstream-streams.io.ts";

export interface UpstreamCallsOptions {
  /** Name of this resolver, as it appears in `via`. */
  readonly name: string;
  /** Number of configured upstream servers. */
  readonly upstreamCount: number;
  /** Reads the credentials for the servers. Throws an error that names the setting and the file. */
  readonly readAccess: () => UpstreamAccess;
  /** Called when the token can no longer be read and the previous one remains in use. */
  readonly onStaleToken: (fault: string) => void;
  /** Called when a stream is opened with a token that differs from the one in use on the open streams. */
  readonly onNewToken: () => void;
}

/** Outcome of a call. `isUnreached`: whether the server sent no response, so another server can be tried. */
export type UpstreamCallOutcome =
  | { readonly bytes: Uint8Array }
  | { readonly bytes: undefined; readonly error: WaymarkError; readonly isUnreached: boolean };

const PROBE_MS = 3000;
const FETCH_MS = 5000;
/** Maximum number of concurrent fetches, as in the machine. */
const MAX_FETCHES = 1000;
/** Maximum number of concurrent forwarded calls. */
const MAX_PASSED = 1000;
const BUSY_RETRY_MS = 250;
const IDLE_MS = 30_000;
const SWEEP_MS = 250;
/** Maximum total size of all incomplete answers, over all connections for calls. */
const MAX_BUFFERED_BYTES = 64 * 1024 * 1024;
/** Maximum size of a message. A page has at most 1 MiB plus one entry, a watch message 16 KiB or one entry, and a part of a policy 128 KiB. */
const MAX_ANSWER_BYTES = 4_194_304;
/** Flow-control windows: the number of bytes that an upstream may send on a stream, or on the whole connection, before they are read. */
const STREAM_WINDOW_BYTES = 524_288;
const CONNECTION_WINDOW_BYTES = 1_048_576;
const CONNECTION_LIMITS: ClientLimits = {
  maxReceiveBytes: MAX_ANSWER_BYTES,
  maxSendBytes: MAX_ANSWER_BYTES,
  maxBufferedBytes: 16 * MAX_ANSWER_BYTES,
  maxCalls: 4096,
  maxSessionMemoryMiB: 16,
  maxHeaderPairs: 64,
  maxHeaderListBytes: 16_384,
  streamWindowBytes: STREAM_WINDOW_BYTES,
  connectionWindowBytes: CONNECTION_WINDOW_BYTES,
  keepaliveTimeMs: 5000,
  keepaliveTimeoutMs: 5000,
};
const PLAINTEXT_FAULT = "the token is sent only over TLS or to a loopback address; set resolver.tls or resolver.tls_ca_file";

export class UpstreamCalls {
  readonly #options: UpstreamCallsOptions;
  readonly #credentials: UpstreamCredentials;
  readonly #streams: UpstreamStreams;
  /** Connections for probes only, so that many fetches do not make a server look slow. */
  readonly #probes: ConnectionPool;
  readonly #calls: ConnectionPool;
  readonly #bounds: AssemblyBounds = { maxMessageBytes: MAX_ANSWER_BYTES, maxBufferedBytes: MAX_BUFFERED_BYTES, bufferedBytes: 0 };
  readonly #timer: NodeJS.Timeout;
  #passedCount = 0;
  #isClosed = false;

  /** If a credential file is unusable, throws an error that names the setting and the file. */
  constructor(options: UpstreamCallsOptions) {
    this.#options = options;
    this.#credentials = new UpstreamCredentials(options.readAccess);
    const open = (address: string, timeoutMs: number, onLeaving: () => void) => this.#dial(address, timeoutMs, onLeaving);
    const { upstreamCount } = options;
    this.#streams = new UpstreamStreams((address, timeoutMs, onLeaving) => this.#dial(address, timeoutMs, onLeaving, true));
    this.#probes = new ConnectionPool({ maxConnections: upstreamCount, maxCalls: 2 * upstreamCount, idleMs: IDLE_MS }, open);
    // The additional connection is for a node that an upstream lists and with which this resolver registers itself.
    this.#calls = new ConnectionPool({ maxConnections: upstreamCount + 1, maxCalls: MAX_FETCHES + MAX_PASSED, idleMs: IDLE_MS }, open);
    this.#timer = setInterval(() => this.#sweep(), SWEEP_MS).unref();
  }

  /**
   * Reads the certificates and the token again, for new connections, calls and streams. Returns whether they changed. If a file is unusable, throws and
   * keeps the previous credentials.
   */
  reload(): boolean {
    const isChanged = this.#credentials.reload();
    if (!isChanged) return false;
    this.#streams.renew();
    this.#probes.renew();
    this.#calls.renew();
    return true;
  }

  /** Requests the server info from an upstream, and measures the latency. Rejects with a WaymarkError. */
  async probe(upstream: string): Promise<{ readonly latencyMs: number; readonly facts: UpstreamFacts }> {
    const startMonoMs = performance.now();
    const outcome = await this.#call(this.#probes, { upstream, path: PATHS.probe, message: PROBE_REQUEST, timeoutMs: PROBE_MS });
    if (outcome.bytes === undefined) throw outcome.error;
    return { latencyMs: performance.now() - startMonoMs, facts: readFacts(outcome.bytes) };
  }

  /** Fetches one page of a name's entries. Rejects with a WaymarkError. */
  async fetch(upstream: string, name: WholeName, pageToken: string): Promise<Uint8Array> {
    const message = fetchRequest(name, pageToken, [this.#options.name]);
    const outcome = await this.#call(this.#calls, { upstream, path: PATHS.fetch, message, timeoutMs: FETCH_MS });
    if (outcome.bytes === undefined) throw outcome.error;
    return outcome.bytes;
  }

  /** Forwards a call. Rejects only if there is a bug. */
  async unary(upstream: string, { parent, name }: DescMethod, message: Uint8Array, timeoutMs: number): Promise<UpstreamCallOutcome> {
    if (this.#passedCount >= MAX_PASSED)
      return {
        bytes: undefined,
        error: new WaymarkError("not_ready", `this resolver is already forwarding ${MAX_PASSED} calls; retry`, {
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

  /**
   * Opens a watch on the entries below the prefixes. An empty text means all namespaces. If the cursor is empty, the watch begins with a snapshot.
   */
  openWatch(upstream: string, place: WatchTarget, events: StreamEvents): UpstreamStreamHandle {
    return this.#openStream(upstream, PATHS.watch, watchRequest({ ...place, via: [this.#options.name] }), events);
  }

  /** Opens a watch on the summaries below the prefixes, as `openWatch` does for entries. */
  openSummaries(upstream: string, place: WatchTarget, events: StreamEvents): UpstreamStreamHandle {
    return this.#openStream(upstream, PATHS.summaries, summariesRequest({ ...place, via: [this.#options.name] }), events);
  }

  /** Opens a stream that carries the policy. `known` lists versions that the server does not need to send. */
  openPolicy(upstream: string, known: readonly VersionPlace[], events: StreamEvents): UpstreamStreamHandle {
    return this.#openStream(upstream, PATHS.policy, policyRequest(known, [this.#options.name]), events);
  }

  /** Closes all connections: streams have no more events, and calls fail. Idempotent. */
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
    const { tls, token } = this.#credentials;
    const plaintextFault = token === undefined ? undefined : PLAINTEXT_FAULT;
    return dialServer({ address, defaultPort: GRPC_PORT, tls, plaintextFault, remedies: UPSTREAM_REMEDIES, timeoutMs, connection });
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
