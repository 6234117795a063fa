/** Who the serving node is. */

/** The serving node. `ServerInfo` tells it, and entries are stamped with it. */
export interface NodeIdentity {
  readonly version: string;
  readonly nodeId: string;
  readonly clusterId: string;
  readonly region: string;
  readonly zone: string;
  readonly roles: readonly string[];
  readonly generation: number;
  readonly boot: string;
  /** Listener name to `host:port`. It is filled while the node starts. */
  readonly listeners: Readonly<Record<string, string>>;
  readonly startedMonoMs: number;
}
