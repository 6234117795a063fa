/** Servers for probes of checks, on loopback: they answer what a test says, and note what they were sent. `closeServers` ends all of them. */
import { once } from "node:events";
import {
  createServer as createHttp2,
  createSecureServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from "node:http2";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { createServer as createTls } from "node:tls";
import { framed } from "../../src/grpc/wire/message-reader.ts";
import { newAuthority } from "./certificate.ts";

const open = new Set<Server | Http2Server>();
const sockets = new Set<Socket>();

export function closeServers(): void {
  for (const socket of sockets) socket.destroy();
  for (const server of open) server.close();
  sockets.clear();
  open.clear();
}

async function listening(server: Server | Http2Server, host = "127.0.0.1", port = 0): Promise<number> {
  open.add(server);
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
  });
  server.listen(port, host);
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

let certificate: { readonly cert: string; readonly key: string } | undefined;

/** Nobody trusts it. */
function untrusted() {
  certificate ??= newAuthority().issue("localhost");
  return certificate;
}

export interface Answering {
  readonly port: number;
  /** What clients sent, in order. */
  readonly said: string[];
  readonly connectionCount: () => number;
  /** Connections that the client has not closed. */
  readonly openCount: () => number;
}

export interface AnsweringOptions {
  readonly isTls?: boolean;
  readonly host?: string;
  readonly port?: number;
}

/** Answers each connection by this function, once something was said; without one it says nothing. */
export async function answering(
  answer?: (socket: Socket) => void,
  { isTls = false, host, port }: AnsweringOptions = {},
): Promise<Answering> {
  const said: string[] = [];
  let [count, left] = [0, 0];
  const serve = (socket: Socket) => {
    count += 1;
    left += 1;
    socket.once("close", () => {
      left -= 1;
    });
    socket.on("error", () => {});
    socket.once("data", (bytes: Buffer) => {
      said.push(bytes.toString("latin1"));
      answer?.(socket);
    });
  };
  const server = isTls ? createTls(untrusted(), serve) : createServer(serve);
  return { port: await listening(server, host, port), said, connectionCount: () => count, openCount: () => left };
}

/** A port on which nobody listens. */
export async function freePort(): Promise<number> {
  const server = createServer();
  const port = await listening(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Answers each stream of HTTP/2 by this function, once its request is whole. */
async function streaming(
  answer: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, body: Buffer) => void,
  { isTls = false, host, port }: AnsweringOptions,
): Promise<Omit<Answering, "said">> {
  let [count, left] = [0, 0];
  const server = isTls ? createSecureServer(untrusted()) : createHttp2();
  server.on("session", (session) => {
    count += 1;
    left += 1;
    session.on("error", () => {});
    session.once("close", () => {
      left -= 1;
    });
  });
  server.on("stream", (stream: ServerHttp2Stream, headers) => {
    stream.on("error", () => {});
    const chunks: Buffer[] = [];
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("end", () => answer(stream, headers, Buffer.concat(chunks)));
  });
  return { port: await listening(server, host, port), connectionCount: () => count, openCount: () => left };
}

/** `grpc.health.v1`: what it says of each service, as the number of the status. Others are not known. */
export async function healthServer(services: ReadonlyMap<string, number>, options: AnsweringOptions = {}): Promise<Answering> {
  const said: string[] = [];
  const answer = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, body: Buffer) => {
    // A frame of gRPC has 5 bytes before its message, and the message a tag and a length before the text.
    const service = body.subarray(7).toString();
    said.push(`${headers[":path"]} ${service} ${String(headers["authorization"])}`);
    const status = services.get(service);
    if (status === undefined) stream.respond({ ...GRPC_HEAD, "grpc-status": "5" }, { endStream: true });
    else serving(stream, { message: Buffer.from([8, status]) });
  };
  return { ...(await streaming(answer, options)), said };
}

const GRPC_HEAD = { ":status": 200, "content-type": "application/grpc" };

/** What a server says of its health, and beside it. */
export interface Wordy {
  /** Heads that only announce another one, before the answer. They never end where this is infinite. */
  readonly announcements?: number;
  readonly head?: Record<string, string>;
  readonly message?: Uint8Array;
  readonly trailers?: Record<string, string>;
}

/** A server of `grpc.health.v1` that says SERVING of all there is, with as many words as a test wants. */
export async function wordyHealthServer(wordy: Wordy, options: AnsweringOptions = {}): Promise<Omit<Answering, "said">> {
  return streaming((stream) => announce(stream, wordy, wordy.announcements ?? 0), options);
}

function announce(stream: ServerHttp2Stream, wordy: Wordy, left: number): void {
  if (stream.destroyed || stream.closed) return;
  if (left === 0) {
    serving(stream, wordy);
    return;
  }
  stream.additionalHeaders({ ":status": 103, link: "x".repeat(1024) });
  setImmediate(announce, stream, wordy, left - 1);
}

function serving(stream: ServerHttp2Stream, { head = {}, message = Buffer.from([8, 1]), trailers = {} }: Wordy): void {
  stream.respond({ ...GRPC_HEAD, ...head }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0", ...trailers }));
  stream.end(framed(message));
}
