/** Addresses and ports of a node's listeners, and how its threads and processes share them. */

export interface CallPorts {
  readonly grpc: number;
  readonly http: number;
}

export interface ListenerPorts {
  /** Undefined in a process that answers only DNS. */
  readonly calls: CallPorts | undefined;
  /** Without `tcp`, TCP uses the port of `udp`. Without `tls`, DNS over TLS is off. Undefined without DNS. */
  readonly dns: { readonly udp: number; readonly tcp?: number | undefined; readonly tls?: number | undefined } | undefined;
}

/**
 * Ports for threads or processes that share their ports. The first one uses the ports from the settings, or the ports of its predecessors. All other
 * threads or processes use the ports to which the first one is bound.
 */
export type SharedPorts =
  | { readonly sharing: "first"; readonly ports?: ListenerPorts | undefined }
  | { readonly sharing: "further"; readonly ports: ListenerPorts };

export interface CallEndpoints {
  readonly ports: CallPorts;
  /** `host:port` for gRPC and HTTP. */
  readonly grpc: string;
  readonly http: string;
}

export interface DnsEndpoint {
  /** Bound address. */
  readonly host: string;
  readonly udp: number;
  readonly tcp: number;
  /** Undefined without DNS over TLS. */
  readonly tls: number | undefined;
}

/** Listener addresses of a node, a thread or a process. */
export interface ListenEndpoints {
  readonly calls: CallEndpoints | undefined;
  readonly dns: DnsEndpoint | undefined;
}

/** Addresses at which callers can reach a node. */
export interface NodeEndpoints extends ListenEndpoints {
  readonly calls: CallEndpoints;
}

export function portsAt({ calls, dns }: ListenEndpoints): ListenerPorts {
  return { calls: calls?.ports, dns };
}
