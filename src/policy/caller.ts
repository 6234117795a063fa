/** Who makes a call, as far as this node can tell. */

export interface Caller {
  /** Who registered entries belong to; empty for an anonymous caller. */
  readonly principal: string;
  /** Empty when the caller has none. */
  readonly tenant: string;
  /** Cluster whose eyes a read uses: the credential's, else the serving node's. */
  readonly cluster: string;
  readonly roles: readonly string[];
  /** Peer address without port. */
  readonly address: string;
}

/** A caller that showed no credential. */
export function anonymousCaller(cluster: string, address: string): Caller {
  return { principal: "", tenant: "", cluster, roles: [], address };
}
