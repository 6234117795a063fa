/** Stands before grpc-js on each new HTTP/2 stream and says who serves it: us directly, grpc-js, or nobody. */
import { constants, type Http2Server, type IncomingHttpHeaders, type ServerHttp2Stream } from "node:http2";
import type { FairScheduler } from "../../grpc/server/fair-scheduler.ts";
import type { Encoding, Inflater } from "../../grpc/wire/encoding.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { type AssemblyBounds, isGrpcType } from "../../lib/grpc-frames.ts";
import type { Service } from "../../services/service.ts";
import { type Chain, type MethodChain, parseGrpcTimeout } from "../chain.ts";
import type { Connection, ConnectionGuard } from "../connection-guard.io.ts";
import { refusal } from "../status.ts";
import { serveDirect } from "./direct.ts";
import { statusTrailers } from "./message.ts";
import { GrpcWire } from "./stream.io.ts";

export interface DispatcherOptions {
  readonly chain: Chain;
  readonly services: readonly Service[];
  readonly guard: ConnectionGuard;
  readonly inflater: Inflater;
  readonly reflection: "on" | "authenticated" | "off";
  /** Registers reflection with grpc-js; called once, before its first call is handed over. Absent where it is off. */
  readonly addReflection: (() => void) | undefined;
  readonly limits: { readonly maxMessageBytes: number; readonly maxBufferedBytes: number; readonly maxStreams: number };
}

/** A new stream. */
interface Incoming {
  readonly stream: ServerHttp2Stream;
  readonly headers: IncomingHttpHeaders;
  readonly flags: number;
  readonly connection: Connection;
}

type StreamListener = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, flags: number) => void;

/** Services grpc-js serves for us; all else that is not ours is refused here, with details grpc-js would not give. */
const FOREIGN = /^\/grpc\.(?:health|reflection)\./;

const REFLECTION = /^\/grpc\.reflection\./;

/** Of messages of our methods. */
const ENCODINGS: ReadonlySet<string> = new Set<Encoding>(["gzip", "deflate"]);

const MAX_LENT_COMPRESSED = 8;

/** Longest timeout grpc-js can count; it wraps around beyond. */
const MAX_FOREIGN_TIMEOUT_MS = 2 ** 31 - 1;

export class GrpcDispatcher {
  readonly #guard: ConnectionGuard;
  readonly #maxStreams: number;
  readonly #methods = new Map<string, MethodChain>();
  readonly #bounds: AssemblyBounds;
  readonly #turns: FairScheduler;
  readonly #chain: Chain;
  readonly #inflater: Inflater;
  /** Calls with compressed messages that grpc-js serves now. */
  #lentCompressed = 0;
  readonly #reflection: DispatcherOptions["reflection"];
  /** Absent once called. */
  #addReflection: DispatcherOptions["addReflection"];
  /** How grpc-js takes a stream. */
  #foreign: readonly StreamListener[] = [];

  constructor(options: DispatcherOptions) {
    const { limits } = options;
    this.#guard = options.guard;
    this.#chain = options.chain;
    this.#inflater = options.inflater;
    this.#reflection = options.reflection;
    this.#addReflection = options.addReflection;
    this.#turns = options.guard.turns;
    this.#maxStreams = limits.maxStreams;
    this.#bounds = { maxMessageBytes: limits.maxMessageBytes, maxBufferedBytes: limits.maxBufferedBytes, bufferedBytes: 0 };
    for (const service of options.services) {
      for (const desc of service.desc.methods) {
        const method = options.chain.method(desc, service.handlers[desc.localName]);
        this.#methods.set(method.path, method);
      }
    }
  }

  /** Takes the place of grpc-js's stream listener on its server, and hands it what is not ours. */
  stepIn(server: Http2Server): void {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- its listeners of "stream" take a stream.
    this.#foreign = server.listeners("stream") as StreamListener[];
    server.removeAllListeners("stream");
    server.on("session", (session) => void this.#guard.adopt(session));
    server.on("stream", (stream, headers, flags) => {
      // First of all, and on every stream: an error that nobody listens to ends the process.
      stream.on("error", ignore);
      const { session } = stream;
      const connection = session === undefined ? undefined : this.#guard.connectionOf(session);
      if (connection === undefined) return;
      const incoming: Incoming = { stream, headers, flags, connection };
      if (this.#turns.mayAct(connection.turns)) this.#serve(incoming);
      else this.#turns.wait(connection.turns, () => this.#serve(incoming));
    });
  }

  #serve(incoming: Incoming): void {
    const { stream, headers, connection } = incoming;
    if (!connection.meter.isTaking) {
      connection.meter.park(() => this.#serve(incoming));
      return;
    }
    // Reset in the same read as its HEADERS, or while it waited: to respond would throw.
    if (stream.destroyed || stream.closed) return;
    const method = this.#accept(incoming);
    if (method === "foreign") {
      countUntilClosed(incoming);
      letLast(incoming);
      boundArrival(incoming);
      if (this.#reflection === "authenticated" && REFLECTION.test(headers[":path"] ?? "")) void this.#lendToKnown(incoming);
      else this.#lend(incoming);
    } else if (method !== undefined) {
      if (method.desc.methodKind !== "unary") letLast(incoming);
      serveDirect(
        method,
        new GrpcWire(stream, headers, { connection, output: method.desc.output, inflater: this.#inflater }),
        this.#bounds,
      );
    }
  }

  /** The method that serves this stream; undefined when it was refused. */
  #accept(incoming: Incoming): MethodChain | "foreign" | undefined {
    const { stream, headers } = incoming;
    if (headers[":method"] !== "POST" || !isGrpcType(headers["content-type"])) {
      countRefusal(incoming);
      stream.respond(headers[":method"] === "POST" ? { ":status": 415 } : { ":status": 405, allow: "POST" }, { endStream: true });
      stream.close(constants.NGHTTP2_NO_ERROR);
      return undefined;
    }
    if (this.#guard.openStreams >= this.#maxStreams) {
      refuse(incoming, new WaymarkError("quota_exceeded", `the server takes ${this.#maxStreams} open calls`, { retryMs: 1_000 }));
      return undefined;
    }
    const path = headers[":path"] ?? "";
    const method = this.#methods.get(path);
    if (method === undefined) {
      if (FOREIGN.test(path) && (this.#reflection !== "off" || !REFLECTION.test(path))) return this.#acceptForeign(incoming);
      refuse(incoming, new WaymarkError("unimplemented", `no method ${path.slice(0, 200)} here`));
      return undefined;
    }
    if (isPlain(headers) || ENCODINGS.has(firstOf(headers["grpc-encoding"]) ?? "")) return method;
    refuse(incoming, unknownEncoding(headers), { "grpc-accept-encoding": "identity,deflate,gzip" });
    return undefined;
  }

  /** grpc-js inflates what comes at once and holds it: a few such calls may be open. */
  #acceptForeign(incoming: Incoming): "foreign" | undefined {
    if (isPlain(incoming.headers)) return "foreign";
    if (this.#lentCompressed >= MAX_LENT_COMPRESSED) {
      refuse(incoming, new WaymarkError("quota_exceeded", "too many compressed calls are open here; send it plain", { retryMs: 1_000 }));
      return undefined;
    }
    this.#lentCompressed += 1;
    incoming.stream.once("close", () => {
      this.#lentCompressed -= 1;
    });
    return "foreign";
  }

  /** Lends a stream when its caller showed a credential. */
  async #lendToKnown(incoming: Incoming): Promise<void> {
    const { stream, headers, connection } = incoming;
    const [, service = "", method = ""] = (headers[":path"] ?? "").split("/");
    const header = (name: string) => firstOf(headers[name]);
    const { address, certificate } = connection;
    try {
      const caller = await this.#chain.identify({ header, address, certificate }, { requestId: "", service, method });
      if (!caller.isAuthenticated) throw new WaymarkError("unauthenticated", "reflection needs a credential here");
      if (!stream.destroyed && !stream.closed) this.#lend(incoming);
    } catch (thrown) {
      if (thrown instanceof WaymarkError) answerRefusal(incoming, thrown);
      else stream.close(constants.NGHTTP2_INTERNAL_ERROR);
    }
  }

  /** Lets grpc-js serve a stream: its timeout is made one it can count, and what it reads is counted as useful. */
  #lend(incoming: Incoming): void {
    const { stream, headers, connection } = incoming;
    try {
      const timeout = headers["grpc-timeout"];
      const timeoutMs = parseGrpcTimeout(timeout === undefined ? undefined : String(timeout));
      if (timeoutMs === undefined || timeoutMs > MAX_FOREIGN_TIMEOUT_MS) delete headers["grpc-timeout"];
      if (REFLECTION.test(headers[":path"] ?? "")) {
        const add = this.#addReflection;
        this.#addReflection = undefined; // First: one that throws would cost as much again at every call.
        add?.();
      }
      for (const listener of this.#foreign) listener(stream, headers, incoming.flags);
      // After grpc-js paused the stream, so that this listener starts nothing.
      stream.on("data", (chunk: Uint8Array) => {
        connection.meter.usefulBytes += chunk.length;
      });
    } catch (thrown) {
      if (thrown instanceof WaymarkError) refuse(incoming, thrown);
      else stream.close(constants.NGHTTP2_INTERNAL_ERROR);
    }
  }
}

function firstOf(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}

function isPlain(headers: IncomingHttpHeaders): boolean {
  const encoding = headers["grpc-encoding"];
  return encoding === undefined || encoding === "identity";
}

function unknownEncoding(headers: IncomingHttpHeaders): WaymarkError {
  const encoding = String(headers["grpc-encoding"]).slice(0, 64);
  return new WaymarkError("unimplemented", `messages in grpc-encoding ${encoding} are not read here; use identity, deflate or gzip`);
}

function countUntilClosed(incoming: Incoming): void {
  const { stream, connection } = incoming;
  connection.opened();
  stream.once("close", () => connection.closed());
}

/** Watches and their kin are no burst: as many more streams may be open. */
function letLast({ stream, connection }: Incoming): void {
  connection.lastingOpened();
  stream.once("close", () => connection.lastingClosed());
}

/** Also of a stream of requests, as reflection's is: its clients say what they have to say and go. */
function boundArrival({ stream, connection }: Incoming): void {
  const call = { sinceMs: undefined, giveUp: () => stream.close(constants.NGHTTP2_CANCEL) };
  connection.arriving.add(call);
  for (const event of ["end", "close"]) stream.once(event, () => connection.arriving.delete(call));
}

function countRefusal(incoming: Incoming): void {
  incoming.connection.meter.refusalCount += 1;
  countUntilClosed(incoming);
}

function refuse(incoming: Incoming, error: WaymarkError, headers?: Readonly<Record<string, string>>): void {
  countRefusal(incoming);
  answerRefusal(incoming, error, headers);
}

function answerRefusal({ stream }: Incoming, error: WaymarkError, headers?: Readonly<Record<string, string>>): void {
  if (stream.destroyed || stream.closed) return;
  const trailers = { ...headers, ...statusTrailers(refusal(error), "") };
  stream.respond({ ":status": 200, "content-type": "application/grpc+proto", ...trailers }, { endStream: true });
  stream.close(constants.NGHTTP2_NO_ERROR);
}

function ignore(): void {
  // "close" follows, and is what we act on.
}
