/** Planted bugs of the rotation of roots (semantics.md, Rotation of roots). */
const FILE = "src/control/identity/rotation.ts";
const FOUND = { withinSeeds: 20, isOfRotations: true, isCheap: true } as const;

export const ROTATION_MUTANTS = [
  {
    name: "a root is dropped early",
    rule: "Rotation of roots: a root is dropped when no live node announces a certificate under it",
    edits: [{ file: FILE, find: "[...announced.map(nodeOf), ...recorded]", replace: "recorded" }],
    ...FOUND,
  },
  {
    name: "a root is dropped before the last renewal is seen",
    rule: "Rotation of roots: a root is dropped when no live node has a certificate under it by the records of the authority",
    edits: [{ file: FILE, find: "[...announced.map(nodeOf), ...recorded]", replace: "announced.map(nodeOf)" }],
    ...FOUND,
  },
  {
    name: "certificates come before their root is accepted",
    rule: "Rotation of roots: certificates are issued under a root when every live node accepts it",
    edits: [{ file: FILE, find: "missing.map(nodeOf)", replace: "missing.map(nodeOf).slice(1)" }],
    ...FOUND,
  },
] as const;
