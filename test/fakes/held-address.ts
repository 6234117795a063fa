/**
 * The address of a process that is gone, for tests whose nodes go on to dial it. A freed port may be given to anybody,
 * also to another listener of the very node that dials it, and that one answers. Held, it answers nobody.
 */
import { once } from "node:events";
import { createServer } from "node:net";

/** Holds `host:port` until it is disposed of, and ends each connection to it at once. Throws where somebody listens there. */
export async function heldAddress(address: string): Promise<AsyncDisposable> {
  const [, host = "", port = ""] = /^(.*):(\d+)$/.exec(address) ?? [];
  const server = createServer((socket) => socket.destroy()).listen(Number(port), host);
  await once(server, "listening");
  return {
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      await closed;
    },
  };
}
