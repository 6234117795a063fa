// Made by scripts/gen-codec.ts from waymark/catalog/v1/entry.proto: change that, then `npm run gen`.

/** Kinds as on the wire. */
export const KIND = { SERVICE: 1, FUNCTION: 2, TOPIC: 3, QUEUE: 4, CACHE: 5, NODE: 6 } as const;
export type Kind = (typeof KIND)[keyof typeof KIND];

/** What people call the kinds, as in commands, labels and output. */
export const KIND_WORDS = ["service", "function", "topic", "queue", "cache", "node"] as const;
export type KindWord = (typeof KIND_WORDS)[number];

export const WORD_OF_KIND = {
  1: "service",
  2: "function",
  3: "topic",
  4: "queue",
  5: "cache",
  6: "node",
} as const satisfies Record<Kind, KindWord>;

/** Kinds by the case of `Entry.detail` that goes with them. */
export const KIND_OF_DETAIL = {
  service: 1,
  function: 2,
  topic: 3,
  queue: 4,
  cache: 5,
  node: 6,
} as const;
