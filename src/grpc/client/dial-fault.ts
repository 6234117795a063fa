/** Explains failed TLS handshakes to operators. */

/** Settings to change after a failed connection, as texts that follow the description of the failure. */
export interface DialRemedies {
  /** The server does not speak TLS. */
  readonly notTls: string;
  /** The server's certificate is not trusted. */
  readonly untrusted: string;
  /** The server rejects the certificate of this side, or requires one. */
  readonly rejected: string;
}

/** The alerts with which a server rejects a client's certificate, or its absence (RFC 8446, section 6.2). */
const REJECTED = /alert (?<alert>bad certificate|certificate (?:expired|required|revoked|unknown)|unknown ca|unsupported certificate)/;

/** Returns the cause and the remedy of a failed TLS handshake, based on the messages of OpenSSL and Node.js, or the unchanged message. */
export function dialFault(message: string, remedies: DialRemedies | undefined): string {
  if (remedies === undefined) return message;
  const { notTls, untrusted, rejected } = remedies;
  if (/wrong version number|packet length too long/.test(message)) return `the server does not speak TLS: ${notTls}`;
  if (/self-signed certificate|unable to (?:verify|get)|certificate signature failure/.test(message))
    return `the server's certificate was not signed by a trusted CA: ${untrusted}`;
  const { alert } = REJECTED.exec(message)?.groups ?? {};
  return alert === undefined ? message : `the server rejected the TLS handshake (${alert}): ${rejected}`;
}
