/** The peer of a connection: its address, and the certificate that it presented. */
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { withoutMapping } from "../lib/addresses.ts";
import { issuerOf } from "../lib/certificates/revocations.ts";
import { identityOfSpiffeId, readAlternativeNames } from "../lib/certificates/spiffe.ts";
import type { PeerCertificate } from "../policy/identity/certificates.ts";
import type { ConnectionPeer } from "../policy/identity/tenants.ts";

const known = new WeakMap<object, ConnectionPeer>();

/**
 * Reads the peer of a connection. Must be called once per connection, after the handshake. `connection` is the socket or the object that represents
 * it.
 */
export function identifyPeer(connection: object, socket: Socket): ConnectionPeer {
  // The address has no port. An IPv4 address is in plain form even on a dual-stack socket.
  const peer = { address: withoutMapping(socket.remoteAddress ?? ""), certificate: certificateOf(socket) };
  known.set(connection, peer);
  return peer;
}

/** Returns the peer that `identifyPeer` read for this connection. */
export function peerOf(connection: object): ConnectionPeer {
  return known.get(connection) ?? UNKNOWN_PEER;
}

const UNKNOWN_PEER: ConnectionPeer = { address: "", certificate: undefined };

const FINGERPRINT_DIGITS = 16;

/** Returns the client's certificate. Returns undefined when the client did not present a certificate or none was requested. */
function certificateOf(socket: Socket): PeerCertificate | undefined {
  if (!(socket instanceof TLSSocket)) return undefined;
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return undefined;
  if (!socket.authorized) return { isTrusted: false, why: errorText(socket.authorizationError) };
  const issuer = issuerOf(certificate.issuer)?.clusterId;
  if (issuer !== undefined && clusterNamedBy(certificate.subjectAltName) !== issuer)
    return { isTrusted: false, why: `an issuer of the cluster ${issuer} made it, and may name that cluster only` };
  const commonName: unknown = certificate.toLegacyObject().subject.CN;
  return {
    isTrusted: true,
    alternativeNames: certificate.subjectAltName ?? "",
    // If there are several common names, the value is a list, and none of the names identifies the caller.
    commonName: typeof commonName === "string" ? commonName : "",
    issuer: certificate.issuer,
    validFromWallMs: certificate.validFromDate.getTime(),
    expiresWallMs: certificate.validToDate.getTime(),
    tokenId: `cert:${certificate.fingerprint256.replaceAll(":", "").toLowerCase().slice(0, FINGERPRINT_DIGITS)}`,
  };
}

/** The cluster in a certificate of a Waymark issuer. */
function clusterNamedBy(alternativeNames = ""): string | undefined {
  const [uri = ""] = readAlternativeNames(alternativeNames)?.uris ?? [];
  return identityOfSpiffeId(uri)?.clusterId;
}

/** Returns the error as text. Node's types declare an Error, but the value is OpenSSL's code, such as `SELF_SIGNED_CERT_IN_CHAIN`. */
function errorText(error: unknown): string {
  if (typeof error === "string") return error;
  return error instanceof Error ? error.message : "not authorised";
}
