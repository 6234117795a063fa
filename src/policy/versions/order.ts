/** Which of two policy versions wins when both are known: (number, hlc, node id), until a shared store decides (semantics.md, Policy). */

/** What places a version among others. */
export interface VersionPlace {
  /** 0: none. */
  readonly number: number;
  readonly hlc: number;
  readonly nodeId: string;
  /** SHA-256 of the set's canonical text, lower-case hex. */
  readonly checksum: string;
}

export const NO_PLACE: VersionPlace = { number: 0, hlc: 0, nodeId: "", checksum: "" };

/** Whether `a` wins over `b`. The checksum only settles what no honest node makes. */
export function isNewer(a: VersionPlace, b: VersionPlace): boolean {
  if (a.number !== b.number) return a.number > b.number;
  if (a.hlc !== b.hlc) return a.hlc > b.hlc;
  if (a.nodeId !== b.nodeId) return a.nodeId > b.nodeId;
  return a.checksum > b.checksum;
}

export function isSamePlace(a: VersionPlace, b: VersionPlace): boolean {
  return a.number === b.number && a.hlc === b.hlc && a.nodeId === b.nodeId && a.checksum === b.checksum;
}
