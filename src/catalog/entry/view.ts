/** A decoded entry as plain values, for the rooms that look inside one (DNS, select, listings). */
import type { EntryKey, Health } from "../record/record.ts";
import type { Scope } from "./scope.ts";

export interface TargetView {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly priority: number;
  readonly weight: number;
  readonly protocol: string;
}

export interface LoadView {
  readonly activeClients: number;
  readonly errorRate: number;
  readonly latencyMs: number;
  readonly utilization: number;
  readonly observedWallMs: number;
}

export interface EntryView {
  readonly key: EntryKey;
  readonly scope: Scope;
  readonly targets: readonly TargetView[];
  readonly tags: readonly string[];
  readonly capabilities: readonly string[];
  readonly resources: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  /** Advice to caches; undefined when the entry gives none. */
  readonly ttlMs: number | undefined;
  readonly aliases: readonly string[];
  readonly region: string;
  readonly zone: string;
  readonly nodeId: string;
  readonly tenantId: string;
  /** What readers see: ORPHANED while the origin is away. */
  readonly health: Health;
  readonly load: LoadView | undefined;
  /** FUNCTION: semantic version, empty when none. */
  readonly functionVersion: string;
  /** FUNCTION: digest of the specification, empty when none. */
  readonly specDigest: string;
  /** NODE: where the node can be reached. */
  readonly advertisedUrls: readonly string[];
  /** NODE: transports it speaks. */
  readonly transports: readonly string[];
}
