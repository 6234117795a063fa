/** TLS of the client: the credentials of its connections, and whether a server that was asked in plain text speaks it. */
import { isIP } from "node:net";
// The default import, because a named import of a function that an older Node lacks would fail before `connect` can explain it.
import nodeTls from "node:tls";
import { type ChannelCredentials, credentials } from "@grpc/grpc-js";
import type { TlsFiles } from "./connect-options.ts";
import { findTlsFault } from "./tls-files.io.ts";

/** Credentials for all connections of a client. Throws a RangeError that names the file which cannot be used. */
export function credentialsOf(tls: TlsFiles | undefined): ChannelCredentials {
  if (tls === undefined) return credentials.createInsecure();
  const wrong = findTlsFault(tls, "tls.cert");
  if (wrong !== undefined) throw new RangeError(`connect: tls.${wrong.file} ${wrong.fault}`);
  const pem = (bytes: Uint8Array | undefined) => (bytes === undefined ? undefined : Buffer.from(bytes));
  return credentials.createSsl(pem(tls.ca) ?? systemRoots(), pem(tls.key), pem(tls.cert));
}

/** PEM of the authorities that the system trusts. Undefined when there are none; then Node uses its own list. */
function systemRoots(): Buffer | undefined {
  const roots = [...nodeTls.getCACertificates("system"), ...nodeTls.getCACertificates("extra")];
  return roots.length === 0 ? undefined : Buffer.from(roots.join("\n"));
}

/** A server that speaks TLS answers at once; the failure waits for this. */
const ANSWER_MS = 1000;

/** Whether a server speaks TLS; for a hint, not for a decision. `server` is `host:port`, with brackets around IPv6. */
export function speaksTls(server: string): Promise<boolean> {
  const at = server.lastIndexOf(":");
  const host = server.slice(0, at).replaceAll(/[[\]]/g, "");
  const { promise, resolve } = Promise.withResolvers<boolean>();
  // Nothing is sent and nothing received is believed, so no certificate is checked.
  const socket = nodeTls.connect({
    host,
    port: Number(server.slice(at + 1)),
    rejectUnauthorized: false,
    ...(isIP(host) === 0 && { servername: host }),
  });
  socket.setTimeout(ANSWER_MS, () => resolve(false));
  socket.on("secureConnect", () => resolve(true));
  socket.on("error", () => resolve(false));
  return promise.finally(() => socket.destroy());
}
