/** Servers and connections of src/grpc over real sockets, for its tests; `closeAll` ends what a test opened. */
import { once } from "node:events";
import { type AddressInfo, connect as connectTcp, createServer, type Server, type Socket } from "node:net";
import { gzipSync } from "node:zlib";
import type { CallRequest, CallResult, ClientCall } from "../../src/grpc/client/client-call.ts";
import { ClientConnection, type ClientLimits, type ConnectionOptions } from "../../src/grpc/client/connection.io.ts";
import { callUnary, type UnaryAnswer } from "../../src/grpc/client/unary.ts";
import { GrpcServer, type ServerLimits, type ServerOptions } from "../../src/grpc/server/server.io.ts";
import { framed } from "../../src/grpc/wire/message-reader.ts";
import { GrpcMetadata } from "../../src/grpc/wire/metadata.ts";
import { GRPC_LIMITS } from "./listener-limits.ts";

const opened: { servers: { server: GrpcServer; listener: Server; sockets: Set<Socket> }[]; connections: ClientConnection[] } = {
  servers: [],
  connections: [],
};

export interface Serving {
  readonly server: GrpcServer;
  readonly port: number;
  readonly address: string;
  /** The server's ends of its connections. */
  readonly sockets: ReadonlySet<Socket>;
}

export type TestServerOptions = Omit<ServerOptions, "limits"> & { readonly limits?: Partial<ServerLimits> };

export async function serve({ limits, ...options }: TestServerOptions): Promise<Serving> {
  const server = new GrpcServer({ ...options, limits: { ...GRPC_LIMITS, ...limits } });
  const sockets = new Set<Socket>();
  const listener = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    server.accept(socket);
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  opened.servers.push({ server, listener, sockets });
  const { port } = listener.address() as AddressInfo;
  return { server, port, address: `127.0.0.1:${port}`, sockets };
}

/** Limits of a connection that a test does not concern. */
export const CLIENT_LIMITS: ClientLimits = {
  maxReceiveBytes: 4_194_304,
  maxSendBytes: 2 ** 32 - 1,
  maxBufferedBytes: 16_777_216,
  maxCalls: 1_024,
  maxSessionMemoryMiB: 16,
  maxHeaderPairs: 64,
  maxHeaderListBytes: 16_384,
  streamWindowBytes: 65_535,
  connectionWindowBytes: 65_535,
  keepaliveTimeMs: 30_000,
  keepaliveTimeoutMs: 10_000,
};

export type TestConnectionOptions = Partial<Omit<ConnectionOptions, "limits">> & { readonly limits?: Partial<ClientLimits> };

export async function connected(port: number, { limits, ...options }: TestConnectionOptions = {}): Promise<ClientConnection> {
  const socket = connectTcp({ host: "127.0.0.1", port, noDelay: true });
  await once(socket, "connect");
  const connection = new ClientConnection(socket, {
    authority: `127.0.0.1:${port}`,
    scheme: "http",
    ...options,
    limits: { ...CLIENT_LIMITS, ...limits },
  });
  opened.connections.push(connection);
  return connection;
}

export function closeAll(): void {
  for (const connection of opened.connections.splice(0)) connection.destroy();
  for (const { server, listener, sockets } of opened.servers.splice(0)) {
    listener.close();
    for (const socket of sockets) socket.destroy();
    server.stop();
  }
}

export function unary(
  connection: ClientConnection,
  path: string,
  message: Uint8Array = new Uint8Array(),
  more: { readonly metadata?: GrpcMetadata; readonly timeoutMs?: number } = {},
): Promise<UnaryAnswer> {
  return new Promise((resolve) => {
    callUnary(connection, { path, message, ...more }, resolve);
  });
}

/** A streaming call and what came of it so far. */
export class Conversation {
  readonly messages: Buffer[] = [];
  metadata: GrpcMetadata | undefined;
  result: CallResult | undefined;
  readonly call: ClientCall;

  constructor(connection: ClientConnection, request: Partial<CallRequest> & { readonly path: string }) {
    this.call = connection.start(
      { isSingleResponse: false, ...request },
      {
        metadata: (came) => {
          this.metadata = came;
        },
        message: (bytes) => void this.messages.push(Buffer.from(bytes)),
        closed: (result) => {
          this.result = result;
        },
      },
    );
  }
}

export function metadata(...entries: readonly (readonly [string, string | Uint8Array])[]): GrpcMetadata {
  const made = new GrpcMetadata();
  for (const [name, value] of entries) made.add(name, value);
  return made;
}

/** A message in gzip, with its prefix. */
export const gzipFrame = (message: Uint8Array): Uint8Array => framed(gzipSync(message), true);
export const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
export const textOf = (message: Uint8Array | undefined): string => Buffer.from(message ?? []).toString();
