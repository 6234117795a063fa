/** The client that sends a question, and its view of the catalog. */
import type { Caller } from "../../policy/identity/caller.ts";
import type { PeerCertificate } from "../../policy/identity/certificates.ts";
import type { DnsCatalog } from "../subject/subject.ts";

/**
 * The network for which a forwarder sends a query (client subnet, RFC 7871). `address` has exactly as many bytes as the prefix needs. Bits after the
 * prefix are 0.
 */
export interface ClientSubnet {
  /** 1 is IPv4, 2 is IPv6. */
  readonly family: 1 | 2;
  readonly sourcePrefix: number;
  readonly address: Uint8Array;
}

export interface QueryClient {
  /** The source address from the socket. It may be forged over UDP. */
  readonly address: string;
  /** `dot` is DNS over TLS, `doh` DNS over HTTP. */
  readonly transport: "udp" | "tcp" | "dot" | "doh";
  readonly subnet: ClientSubnet | undefined;
  /** The certificate of a client of DNS over TLS. Absent if the client did not send a certificate. */
  readonly certificate?: PeerCertificate | undefined;
  /** The view index of the TSIG key that signed the question. Absent if the question is not signed. */
  readonly keyView?: number | undefined;
  /** The authenticated caller of DNS over HTTPS. Absent if the request has no credential. */
  readonly caller?: Caller | undefined;
}

/** The view of a client, or a refusal. */
export type ViewSelection = SelectedView | { readonly isRefused: true };

export interface SelectedView {
  readonly catalog: DnsCatalog;
  /** Length of the prefix in which all clients have this view, used as the scope in a client subnet response. Defaults to 0. */
  readonly scopePrefix: number | undefined;
  /** Whether the view was selected by client subnet. Another subnet of the same forwarder may then have a different view. */
  readonly isBySubnet: boolean;
}

/** Returns the view selection for a client without a client subnet. */
export function onlyView(catalog: DnsCatalog): SelectedView {
  return { catalog, scopePrefix: undefined, isBySubnet: false };
}
