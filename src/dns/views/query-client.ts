/** The client that asks a question, and the view of the catalog that it gets. */
import type { Caller } from "../../policy/identity/caller.ts";
import type { PeerCertificate } from "../../policy/identity/certificates.ts";
import type { DnsCatalog } from "../subject/subject.ts";

/** The network for which a forwarder asks (client subnet, RFC 7871). `address` has exactly the bytes that the prefix needs; bits after the prefix are 0. */
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
  /** The certificate of a client of DNS over TLS. Absent: it sent none. */
  readonly certificate?: PeerCertificate | undefined;
  /** The index of the view of the TSIG key that signed the question. Absent: the question is not signed. */
  readonly keyView?: number | undefined;
  /** The authenticated caller of DNS over HTTPS. Absent: the request has no credential. */
  readonly caller?: Caller | undefined;
}

/** The view of a client, or a refusal. */
export type ViewSelection = SelectedView | { readonly isRefused: true };

export interface SelectedView {
  readonly catalog: DnsCatalog;
  /** Length of the prefix in which all clients have this view, for the scope of a client subnet response. Undefined: 0. */
  readonly scopePrefix: number | undefined;
  /** Whether the client subnet selected the view, so that another subnet of the same forwarder may have another view. */
  readonly isBySubnet: boolean;
}

/** Returns the selection of a view that does not depend on a client subnet. */
export function onlyView(catalog: DnsCatalog): SelectedView {
  return { catalog, scopePrefix: undefined, isBySubnet: false };
}
