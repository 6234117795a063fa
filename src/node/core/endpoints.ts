/** Where the listeners of a node are, and how its threads and processes share them. */

export interface CallPorts {
  readonly grpc: number;
  readonly http: number;
}

export interface ListenerPorts {
  /** Undefined in a process that answers only DNS. */
  readonly calls: CallPorts | undefined;
  /** Without `tcp` it is the number of `udp`, without `tls` there is no such listener. Undefined where there is no DNS. */
  readonly dns: { readonly udp: number; readonly tcp?: number | undefined; readonly tls?: number | undefined } | undefined;
}

/**
 * Of threads or processes that listen on the same ports. The first takes those of the settings, or those that others before it had, and a further one those
 * that the first has got.
 */
export type SharedPorts =
  | { readonly sharing: "first"; readonly ports?: ListenerPorts | undefined }
  | { readonly sharing: "further"; readonly ports: ListenerPorts };

export interface CallEndpoints {
  readonly ports: CallPorts;
  /** `host:port` of gRPC and HTTP. */
  readonly grpc: string;
  readonly http: string;
}

export interface DnsEndpoint {
  /** The address that it is bound to. */
  readonly host: string;
  readonly udp: number;
  readonly tcp: number;
  /** Undefined without DNS over TLS. */
  readonly tls: number | undefined;
}

/** Where somebody listens. */
export interface ListenEndpoints {
  readonly calls: CallEndpoints | undefined;
  readonly dns: DnsEndpoint | undefined;
}

/** Where callers reach a node. */
export interface NodeEndpoints extends ListenEndpoints {
  readonly calls: CallEndpoints;
}

export function portsAt({ calls, dns }: ListenEndpoints): ListenerPorts {
  return { calls: calls?.ports, dns };
}
