/** Records for tests of the lookup and the queries: plain values with defaults. */

import { SCOPE, type Scope } from "../../src/catalog/entry/scope.ts";
import { PLAIN_PORTS } from "../../src/catalog/entry/view.ts";
import {
  BODY,
  type CatalogRecord,
  HEALTH,
  type Health,
  KIND,
  type Kind,
  keyText,
  type OriginStatus,
  type SharedTraits,
} from "../../src/catalog/record/record.ts";

export interface RecordSpec {
  readonly namespace?: string;
  readonly name?: string;
  readonly kind?: Kind;
  readonly instanceId?: string;
  readonly clusterId?: string;
  readonly scope?: Scope;
  readonly health?: Health;
  readonly life?: OriginStatus;
  readonly nodeId?: string;
  readonly region?: string;
  readonly zone?: string;
  readonly tags?: readonly string[];
  readonly capabilities?: readonly string[];
  readonly resources?: readonly string[];
  readonly ports?: readonly string[];
  readonly tenantId?: string;
  readonly version?: string;
  readonly contentBytes?: number;
}

/** A record whose facets a test may change in place, as the replica does. */
export type TestRecord = CatalogRecord & { traits: SharedTraits; scope: Scope; health: Health; contentBytes: number };

export function testTraits(spec: RecordSpec): SharedTraits {
  return {
    tags: spec.tags ?? [],
    capabilities: spec.capabilities ?? [],
    resources: spec.resources ?? [],
    ports: spec.ports ?? PLAIN_PORTS,
    clusterId: spec.clusterId ?? "c1",
    region: spec.region ?? "r1",
    zone: spec.zone ?? "z1",
    nodeId: spec.nodeId ?? "n1",
    tenantId: spec.tenantId ?? "",
    registeredByAdmin: false,
    version: spec.version ?? "",
  };
}

export function testRecord(spec: RecordSpec = {}): TestRecord {
  const namespace = spec.namespace ?? "svc.market";
  const name = spec.name ?? "web";
  const kind = spec.kind ?? KIND.SERVICE;
  const nodeId = spec.nodeId ?? "n1";
  const traits = testTraits(spec);
  return {
    key: keyText({ namespace, name, kind, instanceId: spec.instanceId ?? "i1", clusterId: traits.clusterId }),
    namespace,
    name,
    kind,
    origin: { id: `${nodeId}/1`, nodeId, generation: 1, life: spec.life ?? "live" },
    seq: 1,
    hlc: 1,
    firstSeq: 1,
    filterSeq: 1,
    revision: 1,
    body: BODY.ENTRY,
    scope: spec.scope ?? SCOPE.ZONE,
    reach: spec.scope ?? SCOPE.ZONE,
    health: spec.health ?? HEALTH.HEALTHY,
    traits,
    principal: "",
    at: 0,
    sizeBytes: 140,
    contentBytes: spec.contentBytes ?? 0,
  };
}

/** Code-unit order of keys: the catalog's order. */
export function byKey(a: CatalogRecord, b: CatalogRecord): number {
  return a.key < b.key ? -1 : Number(a.key > b.key);
}
