/**
 * Opens ports on which several threads of this process listen. The kernel distributes connections and datagrams among the threads (SO_REUSEPORT):
 * each connection, and each address that sends datagrams, is assigned to one thread.
 */
import { createSocket, type SocketOptions, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { createServer, type Server } from "node:net";
import { assert } from "./errors.ts";

/**
 * How a thread binds the port. For the `first` thread, the port must be free. A `further` thread joins the threads that use the port, and must know
 * its number.
 *
 * The kernel lets every process of this user join a shared port, and would send some of the connections to another node that was started on the same
 * port by mistake. Therefore, the first thread binds the port exclusively before it shares the port. This fails if any process uses the port, shared
 * or not. The exclusive bind also finds a free number for port 0. For UDP, the kernel could otherwise choose a number that is shared by other
 * processes. Between the two steps, the port is free for a few microseconds. If another process binds the port in this time, the second step fails,
 * unless that process also shares the port.
 */
export type PortSharing = "first" | "further";

export interface ListeningPort {
  readonly host: string;
  /** 0 selects any free port. */
  readonly port: number;
  /** Absent if no other threads listen on the port. */
  readonly sharing?: PortSharing | undefined;
}

/** Listens on a TCP port, or rejects with the system's error if it cannot. */
export async function listenOn(server: Server, at: ListeningPort, backlog?: number): Promise<void> {
  const port = at.sharing === "first" ? await freeTcpPort(at) : at.port;
  server.listen({ host: at.host, port, reusePort: at.sharing !== undefined, ...(backlog !== undefined && { backlog }) });
  await once(server, "listening");
}

/** Opens a socket on a UDP port, or rejects with the system's error if it cannot. */
export async function bindUdp(options: SocketOptions, at: ListeningPort): Promise<UdpSocket> {
  const port = at.sharing === "first" ? await freeUdpPort(options, at) : at.port;
  const socket = createSocket({ ...options, reusePort: at.sharing !== undefined });
  try {
    socket.bind({ address: at.host, port });
    await once(socket, "listening");
    return socket;
  } catch (error) {
    socket.close();
    throw error;
  }
}

async function freeTcpPort({ host, port }: ListeningPort): Promise<number> {
  const server = createServer();
  await listenOn(server, { host, port });
  const address = server.address();
  assert(address !== null && typeof address === "object", "a listening TCP server has no address");
  server.close();
  return address.port;
}

async function freeUdpPort(options: SocketOptions, { host, port }: ListeningPort): Promise<number> {
  const socket = await bindUdp(options, { host, port });
  const address = socket.address();
  socket.close();
  return address.port;
}
