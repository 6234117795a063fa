/**
 * Makes calls to etcd over one connection at a time. If a member of etcd does not answer or has no leader, the next call connects to the next
 * endpoint. Files of certificates and passwords are read for each connection, so renewed files need no restart.
 */
import type { CallListener, ClientCall } from "../../grpc/client/client-call.ts";
import type { ClientConnection, ClientLimits } from "../../grpc/client/connection.io.ts";
import { type DialCredentials, dialContext, dialServer } from "../../grpc/client/dial.io.ts";
import type { PendingConnection } from "../../grpc/client/pool.io.ts";
import { callUnary, type UnaryRequest } from "../../grpc/client/unary.ts";
import { GrpcMetadata } from "../../grpc/wire/metadata.ts";
import type { GrpcStatus } from "../../grpc/wire/status.ts";
import { CODES, WaymarkError } from "../../lib/errors.ts";
import { MAX_PEM_BYTES, readCertificates, readNamedFile, readToken } from "../../lib/named-file.io.ts";
import { stallAwareNowMs } from "../../lib/stall-aware-time.io.ts";
import { MAX_PAGE_BYTES, type StorePage } from "../control/store.ts";
import { authenticateRequest, ETCD_METHODS, EtcdCodec, type PageRange, readAuthToken } from "./codec.ts";

/** The outcome of a request: answered, refused by etcd, or without an answer from a working member. */
export type EtcdOutcome = "ok" | "refused" | "unavailable";

/** The names of files, as in the settings `store.ca_file`, `store.cert_file` and `store.key_file`. */
type EtcdTlsFiles = { readonly [File in "caFile" | "certFile" | "keyFile"]?: string | undefined };

export interface EtcdOptions {
  /** `host` or `host:port` of each member. At least one. */
  readonly endpoints: readonly string[];
  /** The start of all keys, which has at least one character. */
  readonly prefix: string;
  /** TLS is used if one of the files is set. */
  readonly tls?: EtcdTlsFiles | undefined;
  readonly user?: string | undefined;
  readonly passwordFile?: string | undefined;
  /** Limit for each request, including the time to connect. */
  readonly timeoutMs: number;
  /** Called after each request. */
  readonly onRequest?: ((outcome: EtcdOutcome) => void) | undefined;
}

const ETCD_PORT = 2379;
/** Maximum size of an answer: the values of a page, and the keys of 16 items of the largest size. */
const MAX_ANSWER_BYTES = MAX_PAGE_BYTES + 65_536;
/** The default limit of etcd, for a message of its log. The difference is more than the log adds to a request. */
const MAX_REQUEST_BYTES = 1.5 * 1024 * 1024 - 4096;
const MAX_FAULT_CHARS = 512;
/** A second attempt of a request needs at least this time. */
const MIN_ATTEMPT_MS = 10;

const LIMITS: ClientLimits = {
  maxReceiveBytes: MAX_ANSWER_BYTES,
  maxSendBytes: MAX_REQUEST_BYTES,
  maxBufferedBytes: 4 * MAX_ANSWER_BYTES,
  maxCalls: 1000,
  maxSessionMemoryMiB: 32,
  maxHeaderPairs: 64,
  maxHeaderListBytes: 16_384,
  // A watch whose reader is slow keeps the window of its stream full. The window of the connection has room for 64 of these.
  streamWindowBytes: 262_144,
  connectionWindowBytes: 16_777_216,
  // etcd closes connections with pings more often than every 5 s (`--grpc-keepalive-min-time`).
  keepaliveTimeMs: 6000,
  keepaliveTimeoutMs: 4000,
};

const REMEDIES = {
  notTls: "remove store.ca_file, store.cert_file and store.key_file, or configure TLS on etcd",
  untrusted: "store.ca_file must contain the CA that signed it",
  rejected: "store.cert_file must name a certificate that etcd trusts (--trusted-ca-file)",
};
const FREE_SPACE = "; compact and defragment etcd, and then disarm its alarm (etcdctl alarm disarm)";
const PLAINTEXT_FAULT = "the password is sent only over TLS or to a loopback address; set store.ca_file";

/** Codes with which each member of etcd would answer the request. After all other codes, another member is tried. */
const REFUSALS: ReadonlySet<number> = new Set([
  CODES.INVALID_ARGUMENT,
  CODES.FAILED_PRECONDITION,
  CODES.OUT_OF_RANGE,
  CODES.PERMISSION_DENIED,
  CODES.UNAUTHENTICATED,
  CODES.RESOURCE_EXHAUSTED,
]);

// Texts of etcd (api/v3rpc/rpctypes/error.go), which are more specific than its codes.
/** Refusals before etcd processes a request. A token is missing, has expired, or is older than a change of users or roles; or there is no leader. */
const NOT_PROCESSED = /invalid auth token|user name is empty|revision of auth store is old|revision in header is old|etcdserver: no leader/;
const TOO_LARGE = /request is too large|received message larger than max/;
const NOT_ENABLED = /authentication is not enabled/;
const NO_SPACE = /database space exceeded/;
const NO_USER = /user name is empty/;
const NO_HISTORY = /required revision (?:has been compacted|is a future revision)/;

/** A request that etcd refused or did not answer. */
export class EtcdError extends WaymarkError {
  readonly status: GrpcStatus;
  /** Whether etcd certainly did not process the request. */
  readonly isUnprocessed: boolean;

  constructor(endpoint: string, status: GrpcStatus, isUnprocessed = false) {
    const text = status.message.slice(0, MAX_FAULT_CHARS).toWellFormed();
    const remedy = NO_USER.test(text) ? "; set store.user and store.password_file" : NO_SPACE.test(text) ? FREE_SPACE : "";
    super(TOO_LARGE.test(text) ? "quota_exceeded" : "store_unavailable", `etcd ${endpoint}: ${text}${remedy}`);
    this.status = status;
    this.isUnprocessed = isUnprocessed || NOT_PROCESSED.test(text);
  }
}

/** Rethrows an error, unless etcd has no history from the requested revision: it was compacted, or etcd was restored from an earlier backup. */
export function ifWithoutHistory(error: unknown): void {
  if (!(error instanceof EtcdError && NO_HISTORY.test(error.status.message))) throw error;
}

interface EtcdAnswer {
  readonly bytes: Uint8Array;
  readonly session: EtcdSession;
}

export interface EtcdPage extends StorePage {
  /** The session in which etcd answered. */
  readonly session: EtcdSession;
}

export interface EtcdStream {
  readonly call: ClientCall;
  /** Returns the error for the end of the stream. The next request uses another connection, unless each member of etcd would refuse it. */
  fail(status: GrpcStatus): EtcdError;
}

export class EtcdClient {
  readonly codec: EtcdCodec;
  readonly #options: EtcdOptions;
  readonly #requests = new Set<Promise<unknown>>();
  #session: EtcdSession | undefined;
  #sessionCount = 0;
  #isClosed = false;

  constructor(options: EtcdOptions) {
    this.codec = new EtcdCodec(options.prefix);
    this.#options = options;
  }

  /** Sends a request and returns the answer. Rejects with an `EtcdError`, or with `quota_exceeded` if the request is too large. */
  async call(path: string, message: Uint8Array): Promise<Uint8Array> {
    return (await this.#request(path, message)).bytes;
  }

  async #request(path: string, message: Uint8Array): Promise<EtcdAnswer> {
    if (message.length > MAX_REQUEST_BYTES)
      throw new WaymarkError("quota_exceeded", `the request has ${message.length} bytes; etcd accepts at most ${MAX_REQUEST_BYTES}`);
    const request = this.#callTwice(path, message);
    this.#requests.add(request);
    let outcome: EtcdOutcome = "ok";
    try {
      return await request;
    } catch (error) {
      outcome = error instanceof EtcdError && REFUSALS.has(error.status.code) ? "refused" : "unavailable";
      throw error;
    } finally {
      this.#requests.delete(request);
      this.#options.onRequest?.(outcome);
    }
  }

  /** Reads a part of a list, with fewer items if their values are large. Rejects with an `EtcdError`. */
  async page(prefix: string, range: PageRange): Promise<EtcdPage> {
    for (let { limit } = range; ; limit = Math.ceil(limit / 2)) {
      try {
        const { bytes, session } = await this.#request(ETCD_METHODS.range, this.codec.pageRequest(prefix, { ...range, limit }));
        return { ...this.codec.readPage(bytes, range.after), session };
      } catch (error) {
        const isTooLarge = error instanceof EtcdError && error.status.code === CODES.RESOURCE_EXHAUSTED;
        if (!isTooLarge || limit === 1) throw error;
      }
    }
  }

  /** Opens a watch with one request. Rejects with an `EtcdError`. The listener is called in later turns of the event loop. */
  async openWatch(session: EtcdSession, message: Uint8Array, listener: CallListener): Promise<EtcdStream> {
    const { connection, metadata } = await session.opening;
    const call = connection.start({ path: ETCD_METHODS.watch, isSingleResponse: false, metadata, timeoutMs: undefined }, listener);
    call.write(message);
    return { call, fail: (status) => this.#failed(session, new EtcdError(session.endpoint, status)) };
  }

  /** Waits for the requests in progress, and then closes the connection. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.allSettled(this.#requests);
    this.#session?.leave(0);
  }

  /** Makes a call, and makes it a second time on another connection if etcd certainly did not process it. */
  async #callTwice(path: string, message: Uint8Array): Promise<EtcdAnswer> {
    const untilMs = stallAwareNowMs() + this.#options.timeoutMs;
    for (let isLast = false; ; isLast = true) {
      const session = this.#currentSession(untilMs);
      try {
        return { bytes: await unary(session.endpoint, await session.opening, { path, message, untilMs }), session };
      } catch (error) {
        if (!(error instanceof EtcdError)) throw error;
        this.#failed(session, error);
        if (isLast || !error.isUnprocessed || untilMs - stallAwareNowMs() < MIN_ATTEMPT_MS) throw error;
      }
    }
  }

  /** A new session must be open by `untilMs`. Throws `store_unavailable` after `close`. */
  #currentSession(untilMs: number): EtcdSession {
    if (this.#isClosed) throw new WaymarkError("store_unavailable", "the store is closed");
    if (this.#session?.isOver === true) this.#leave(this.#session);
    if (this.#session === undefined) {
      const { endpoints } = this.#options;
      this.#session = new EtcdSession(endpoints[this.#sessionCount % endpoints.length] ?? "", this.#options, untilMs);
      this.#sessionCount += 1;
    }
    return this.#session;
  }

  #failed(session: EtcdSession, error: EtcdError): EtcdError {
    if (!REFUSALS.has(error.status.code) || error.isUnprocessed) this.#leave(session);
    return error;
  }

  /** Permits the calls of a session to end within their timeout. Streams are ended then, so that they move to the next endpoint too. */
  #leave(session: EtcdSession): void {
    if (this.#session !== session) return;
    this.#session = undefined;
    session.leave(this.#options.timeoutMs);
  }
}

interface OpenedSession {
  readonly connection: ClientConnection;
  /** The metadata of all calls. */
  readonly metadata: GrpcMetadata;
}

/** A connection to one endpoint and, if there is a user, the token that belongs to it. */
export class EtcdSession {
  readonly endpoint: string;
  /** Rejects with an `EtcdError`. */
  readonly opening: Promise<OpenedSession>;
  #connection: ClientConnection | undefined;
  #dial: PendingConnection | undefined;
  #isRejected = false;

  constructor(endpoint: string, options: EtcdOptions, untilMs: number) {
    this.endpoint = endpoint;
    this.opening = this.#open(options, untilMs);
    // The requests that wait for it receive the error.
    this.opening.catch(() => {
      this.#isRejected = true;
    });
  }

  /** Whether the session cannot be opened, or its connection accepts no more calls. */
  get isOver(): boolean {
    return this.#isRejected || this.#connection?.isOpen === false;
  }

  /** Refuses new calls. After `afterMs`, ends those that are still open. */
  leave(afterMs: number): void {
    const connection = this.#connection;
    if (connection === undefined) return this.#dial?.cancel();
    connection.close();
    if (connection.callCount === 0 || afterMs === 0) connection.destroy();
    else setTimeout(() => connection.destroy(), afterMs);
  }

  async #open({ user, passwordFile, tls = {} }: EtcdOptions, untilMs: number): Promise<OpenedSession> {
    let connection: ClientConnection;
    let password = "";
    try {
      if (passwordFile !== undefined) password = readToken(passwordFile, "store.password_file");
      const plaintextFault = user === undefined ? undefined : PLAINTEXT_FAULT;
      const server = { address: this.endpoint, defaultPort: ETCD_PORT, tls: contextOf(tls), plaintextFault, remedies: REMEDIES };
      this.#dial = dialServer({ ...server, timeoutMs: Math.ceil(untilMs - stallAwareNowMs()), connection: { limits: LIMITS } });
      connection = await this.#dial.done;
    } catch (error) {
      throw new EtcdError(this.endpoint, { code: CODES.UNAVAILABLE, message: messageOf(error) }, true);
    }
    this.#connection = connection;
    // Without a leader, a member then answers immediately instead of not at all, and ends watches.
    const metadata = new GrpcMetadata().add("hasleader", "true");
    const opened = { connection, metadata };
    if (user === undefined) return opened;
    try {
      const message = authenticateRequest(user, password);
      const answer = await unary(this.endpoint, opened, { path: ETCD_METHODS.authenticate, message, untilMs });
      metadata.add("token", readAuthToken(answer));
    } catch (error) {
      if (!(error instanceof EtcdError && NOT_ENABLED.test(error.status.message))) throw error;
    }
    return opened;
  }
}

/** Throws an error that names the setting and the file. */
function contextOf({ caFile, certFile, keyFile }: EtcdTlsFiles) {
  if (caFile === undefined && certFile === undefined && keyFile === undefined) return undefined;
  const read = (name: "cert" | "key", path: string | undefined): DialCredentials =>
    path === undefined ? {} : { [name]: readNamedFile({ setting: `store.${name}_file`, path, maxBytes: MAX_PEM_BYTES }) };
  const ca = caFile === undefined ? {} : { ca: readCertificates("store.ca_file", caFile) };
  const own = { ...read("cert", certFile), ...read("key", keyFile) };
  try {
    return dialContext({ ...ca, ...own });
  } catch (cause) {
    throw new Error(`store.cert_file, store.key_file: ${messageOf(cause)}`, { cause });
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

interface EtcdRequest extends Pick<UnaryRequest, "message" | "path"> {
  /** The deadline for the answer, in stall-aware ms. */
  readonly untilMs: number;
}

/** Makes a call. Rejects with an `EtcdError`. */
function unary(endpoint: string, { connection, metadata }: OpenedSession, { path, message, untilMs }: EtcdRequest): Promise<Uint8Array> {
  const request = { path, message, metadata, timeoutMs: Math.max(1, untilMs - stallAwareNowMs()) };
  return new Promise((resolve, reject) => {
    callUnary(connection, request, ({ message: answer, status, isUnprocessed }) => {
      if (answer === undefined) reject(new EtcdError(endpoint, status, isUnprocessed));
      else resolve(answer);
    });
  });
}
