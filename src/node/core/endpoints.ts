/** Where the listeners of a node are, and how its threads share them. */

export interface ListenerPorts {
  readonly grpc: number;
  readonly http: number;
  /** Without `tcp` it is the number of `udp`. Undefined where there is no DNS. */
  readonly dns: { readonly udp: number; readonly tcp?: number | undefined } | undefined;
}

/**
 * Of threads that listen on the same ports. The first takes those of the settings, or those that threads before it had, and a further one those that
 * the first has got.
 */
export type SharedPorts =
  | { readonly sharing: "first"; readonly ports?: ListenerPorts | undefined }
  | { readonly sharing: "further"; readonly ports: ListenerPorts };

/** Where callers reach a node. */
export interface Endpoints {
  readonly ports: ListenerPorts;
  /** `host:port` of gRPC and HTTP. */
  readonly grpc: string;
  readonly http: string;
  /** The address that DNS is bound to; undefined without DNS. */
  readonly dnsHost: string | undefined;
}
