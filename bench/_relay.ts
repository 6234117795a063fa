/** A relay of TCP between a program and what it connects to, which counts the bytes of both directions. */
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import type { Address } from "./_wire.ts";

export interface Relay {
  /** Where programs connect in place of the address behind it. */
  readonly at: Address;
  /** All bytes so far: what TCP carried, without its own heads. */
  bytes(): number;
  close(): void;
}

export async function startRelay(to: Address): Promise<Relay> {
  let bytes = 0;
  const sockets = new Set<Socket>();
  const keep = (socket: Socket, other: Socket) => {
    sockets.add(socket);
    socket.setNoDelay(true);
    socket.on("data", (chunk) => {
      bytes += chunk.length;
      if (!other.write(chunk)) socket.pause();
    });
    socket.on("drain", () => other.resume());
    socket.on("end", () => other.end());
    // Either side may be gone at any time. The other is told.
    socket.on("error", () => other.destroy());
    socket.on("close", () => {
      sockets.delete(socket);
      other.destroy();
    });
  };
  const server = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ ...to, allowHalfOpen: true });
    keep(near, far);
    keep(far, near);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return {
    at: { host: "127.0.0.1", port },
    bytes: () => bytes,
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
