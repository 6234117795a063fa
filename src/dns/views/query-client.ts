/** Who asks a question, and which view of the catalog it gets. */
import type { Caller } from "../../policy/identity/caller.ts";
import type { PeerCertificate } from "../../policy/identity/certificates.ts";
import type { DnsCatalog } from "../subject/subject.ts";

/** The network on whose behalf a forwarder asks (client subnet, RFC 7871). `address` has just the bytes that hold the prefix; bits after it are 0. */
export interface ClientSubnet {
  /** 1 is IPv4, 2 is IPv6. */
  readonly family: 1 | 2;
  readonly sourcePrefix: number;
  readonly address: Uint8Array;
}

export interface QueryClient {
  /** As the socket gives it. Over UDP it may be forged. */
  readonly address: string;
  /** `dot` is DNS over TLS, `doh` DNS over HTTP. */
  readonly transport: "udp" | "tcp" | "dot" | "doh";
  readonly subnet: ClientSubnet | undefined;
  /** What a client of DNS over TLS showed. Absent: nothing. */
  readonly certificate?: PeerCertificate | undefined;
  /** The view of the key that signed the question, by its index. Absent: no key did. */
  readonly keyView?: number | undefined;
  /** Who asks over HTTP with a credential. Absent: nobody showed one. */
  readonly caller?: Caller | undefined;
}

/** The view of an asker, or that it may ask nothing. */
export type ViewSelection = SelectedView | { readonly isRefused: true };

export interface SelectedView {
  readonly catalog: DnsCatalog;
  /** Length of the prefix within which everybody has this view, for the answer to a client subnet. Undefined: 0. */
  readonly scopePrefix: number | undefined;
  /** Whether the client subnet chose the view, so that another subnet of the same forwarder may have another one. */
  readonly isBySubnet: boolean;
}

/** A view that no client subnet chose. */
export function onlyView(catalog: DnsCatalog): SelectedView {
  return { catalog, scopePrefix: undefined, isBySubnet: false };
}
