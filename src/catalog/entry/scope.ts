/** The order of scopes, and which nodes may store which records (semantics.md, Scopes). */

/** The scopes and their numbers on the wire, in ascending order: unset 0 < LOCAL 1 < ZONE 2 < REGION 3 < GLOBAL 4. */
export const SCOPE = { UNSET: 0, LOCAL: 1, ZONE: 2, REGION: 3, GLOBAL: 4 } as const;
export type Scope = (typeof SCOPE)[keyof typeof SCOPE];

export const SCOPE_NAMES = ["unspecified", "local", "zone", "region", "global"] as const;

/** Returns the wider of two scopes. */
export function widest(a: Scope, b: Scope): Scope {
  return a > b ? a : b;
}

/** How far a node is from a record's origin. */
export type OriginRelation = "self" | "cluster" | "region" | "remote";

interface OriginLocality {
  readonly clusterId: string;
  readonly region: string;
}

/** Returns the relation between two nodes, given their clusters and regions. */
export function relationOf(a: OriginLocality, b: OriginLocality): Exclude<OriginRelation, "self"> {
  if (a.clusterId === b.clusterId) return "cluster";
  return a.region === b.region ? "region" : "remote";
}

/** Returns the narrowest scope that a record needs in order to reach one location from the other. */
export function scopeBetween(a: OriginLocality, b: OriginLocality): Scope {
  return { cluster: SCOPE.ZONE, region: SCOPE.REGION, remote: SCOPE.GLOBAL }[relationOf(a, b)];
}

/** Whether a node with this relation to the origin may store a record of this scope. */
export function mayHold(scope: Scope, relation: OriginRelation): boolean {
  switch (relation) {
    case "self":
      return true;
    case "cluster":
      return scope >= SCOPE.ZONE;
    case "region":
      return scope >= SCOPE.REGION;
    case "remote":
      return false;
  }
}
