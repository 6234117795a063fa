/** The other end of a socket: its address, and the certificate it showed. */
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { withoutMapping } from "../lib/addresses.ts";
import type { PeerCertificate } from "../policy/identity/certificates.ts";

/** Without port; IPv4 as itself also on a socket that speaks both families. */
export function addressOf(socket: Pick<Socket, "remoteAddress">): string {
  return withoutMapping(socket.remoteAddress ?? "");
}

/** The client's certificate; undefined when it showed none or none was asked for. Read it once a connection, after the handshake. */
export function certificateOf(socket: Socket): PeerCertificate | undefined {
  if (!(socket instanceof TLSSocket)) return undefined;
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return undefined;
  if (!socket.authorized) return { isTrusted: false, why: errorText(socket.authorizationError) };
  const commonName: unknown = certificate.toLegacyObject().subject.CN;
  return {
    isTrusted: true,
    alternativeNames: certificate.subjectAltName ?? "",
    // More than one is a list, and names nobody in particular.
    commonName: typeof commonName === "string" ? commonName : "",
    expiresWallMs: certificate.validToDate.getTime(),
  };
}

/** Node's types say Error; what is there is OpenSSL's code, such as `SELF_SIGNED_CERT_IN_CHAIN`. */
function errorText(error: unknown): string {
  if (typeof error === "string") return error;
  return error instanceof Error ? error.message : "not authorised";
}

const known = new WeakMap<Socket, { readonly certificate: PeerCertificate | undefined }>();

/** As `certificateOf`, remembered with the socket: for HTTP/1.1, where a request knows no more than its socket. */
export function knownCertificateOf(socket: Socket): PeerCertificate | undefined {
  if (!(socket instanceof TLSSocket)) return undefined;
  const found = known.get(socket) ?? { certificate: certificateOf(socket) };
  known.set(socket, found);
  return found.certificate;
}
