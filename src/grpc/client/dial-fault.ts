/** Explains failed TLS handshakes to operators. */

/** Settings to change after a failed connection, as texts that follow the description of the failure. */
export interface DialRemedies {
  /** The server does not speak TLS. */
  readonly notTls: string;
  /** The server's certificate is not trusted. */
  readonly untrusted: string;
}

/** Returns the cause and the remedy of a failed TLS handshake, based on the messages of OpenSSL and Node.js, or the unchanged message. */
export function dialFault(message: string, { notTls, untrusted }: DialRemedies): string {
  if (/wrong version number|packet length too long/.test(message)) return `the server does not speak TLS: ${notTls}`;
  if (/self-signed certificate|unable to (?:verify|get)|certificate signature failure/.test(message))
    return `the server's certificate was not signed by a trusted CA: ${untrusted}`;
  return message;
}
