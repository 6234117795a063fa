/**
 * An entry as plain values in the shape the generated `waymark.catalog.v1.Entry` has, so that rules and encoder take a
 * decoded message as it is and never import generated code.
 */

export interface KeyFields {
  readonly kind: number;
  readonly namespace: string;
  readonly name: string;
  readonly instanceId: string;
  readonly clusterId: string;
}

export interface TargetFields {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly priority: number;
  readonly weight: number;
  readonly protocol: string;
}

/** A Timestamp or a Duration. */
export interface TimeFields {
  readonly seconds: bigint;
  readonly nanos: number;
}

export interface LoadFields {
  readonly activeClients: number;
  readonly errorRate: number;
  readonly latencyMs: number;
  readonly utilization: number;
  readonly observedAt?: TimeFields | undefined;
}

export interface FunctionFields {
  readonly functionId: string;
  readonly version: string;
  readonly specDigest: string;
  readonly resources: readonly string[];
}

export interface CacheFields {
  readonly role: string;
  readonly capacityBytes: bigint;
  readonly latitude: number;
  readonly longitude: number;
  readonly modes: readonly string[];
  readonly region: string;
  readonly utilization: number;
  readonly latencyMs: number;
}

export interface NodeFields {
  readonly advertisedUrls: readonly string[];
  readonly transports: readonly string[];
  readonly protocolVersions: readonly number[];
  readonly labels: Readonly<Record<string, string>>;
}

export type DetailFields =
  | { readonly case: "service"; readonly value: object }
  | { readonly case: "function"; readonly value: FunctionFields }
  | { readonly case: "topic"; readonly value: { readonly patterns: readonly string[] } }
  | { readonly case: "queue"; readonly value: { readonly deliveryGuarantees: readonly string[] } }
  | { readonly case: "cache"; readonly value: CacheFields }
  | { readonly case: "node"; readonly value: NodeFields };

export interface EntryFields {
  readonly key?: KeyFields | undefined;
  readonly scope: number;
  readonly targets: readonly TargetFields[];
  readonly tags: readonly string[];
  readonly capabilities: readonly string[];
  readonly resources: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly ttl?: TimeFields | undefined;
  readonly aliases: readonly string[];
  readonly clusterId: string;
  readonly region: string;
  readonly zone: string;
  readonly nodeId: string;
  readonly tenantId: string;
  readonly health: number;
  readonly load?: LoadFields | undefined;
  readonly registeredAt?: TimeFields | undefined;
  readonly updatedAt?: TimeFields | undefined;
  readonly detail: DetailFields | { readonly case: undefined; readonly value?: undefined };
  readonly registeredByAdmin: boolean;
}

/** Whole milliseconds of a Timestamp or Duration, rounded down. */
export function timeMs(time: TimeFields): number {
  return Number(time.seconds) * 1000 + Math.floor(time.nanos / 1_000_000);
}
