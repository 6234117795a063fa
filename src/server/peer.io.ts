/** The other end of a connection: its address, and the certificate it showed. */
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { withoutMapping } from "../lib/addresses.ts";
import type { PeerCertificate } from "../policy/identity/certificates.ts";
import type { ConnectionPeer } from "../policy/identity/tenants.ts";

const known = new WeakMap<object, ConnectionPeer>();

/** Reads who is at the other end, once a connection, after its handshake. `connection`: the socket itself, or what stands for it. */
export function identifyPeer(connection: object, socket: Socket): ConnectionPeer {
  // Without port; IPv4 as itself also on a socket that speaks both families.
  const peer = { address: withoutMapping(socket.remoteAddress ?? ""), certificate: certificateOf(socket) };
  known.set(connection, peer);
  return peer;
}

/** The peer that `identifyPeer` read for this connection. */
export function peerOf(connection: object): ConnectionPeer {
  return known.get(connection) ?? STRANGER;
}

const STRANGER: ConnectionPeer = { address: "", certificate: undefined };

/** The client's certificate; undefined when it showed none or none was asked for. */
function certificateOf(socket: Socket): PeerCertificate | undefined {
  if (!(socket instanceof TLSSocket)) return undefined;
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return undefined;
  if (!socket.authorized) return { isTrusted: false, why: errorText(socket.authorizationError) };
  const commonName: unknown = certificate.toLegacyObject().subject.CN;
  return {
    isTrusted: true,
    alternativeNames: certificate.subjectAltName ?? "",
    // Several common names are a list, and none of them is the caller's name.
    commonName: typeof commonName === "string" ? commonName : "",
    expiresWallMs: certificate.validToDate.getTime(),
  };
}

/** Node's types say Error; what is there is OpenSSL's code, such as `SELF_SIGNED_CERT_IN_CHAIN`. */
function errorText(error: unknown): string {
  if (typeof error === "string") return error;
  return error instanceof Error ? error.message : "not authorised";
}
