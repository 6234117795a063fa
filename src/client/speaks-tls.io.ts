/** Whether a server that cannot be talked to speaks TLS: for a hint, not for a decision. */
import { isIP } from "node:net";
import { connect } from "node:tls";

const WAIT_MS = 5000;

/** `server` is `host:port`; an IPv6 address stands in brackets. */
export function speaksTls(server: string): Promise<boolean> {
  const at = server.lastIndexOf(":");
  const host = server.slice(0, at).replaceAll(/[[\]]/g, "");
  const { promise, resolve } = Promise.withResolvers<boolean>();
  // Nothing is sent and nothing believed; its certificate is for the connection that follows.
  const socket = connect({
    host,
    port: Number(server.slice(at + 1)),
    rejectUnauthorized: false,
    ...(isIP(host) === 0 && { servername: host }),
  });
  socket.setTimeout(WAIT_MS, () => resolve(false));
  socket.on("secureConnect", () => resolve(true));
  socket.on("error", () => resolve(false));
  return promise.finally(() => socket.destroy());
}
