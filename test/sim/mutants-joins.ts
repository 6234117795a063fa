/** Planted bugs of the authority of a cluster (semantics.md, Identities). */
const AUTHORITY = "src/control/identity/authority.io.ts";
const VERDICTS = "src/control/identity/verdicts.ts";
const FOUND = { withinSeeds: 40, isOfJoins: true, isCheap: true } as const;

export const JOIN_MUTANTS = [
  {
    name: "a use is counted before the verdict",
    rule: "Identities: a refused newcomer uses no part of a token",
    edits: [
      {
        file: AUTHORITY,
        find: "    const verdict = judgeJoin(",
        replace: `    if (known !== undefined && tokenItem !== undefined)
      await this.#options.store.compareAndSwap(tokenItem.key, tokenItem.version, encodeIdentity({ ...known, used: known.used + 1 }));
    const verdict = judgeJoin(`,
      },
    ],
    ...FOUND,
  },
  {
    name: "a use is not bound to the key",
    rule: "Identities: a repeated request has the key of the first one",
    edits: [{ file: VERDICTS, find: "if (isHolder && held?.tokenId === tokenId)", replace: "if (held?.tokenId === tokenId)" }],
    ...FOUND,
  },
  {
    name: "a repeated request is another use",
    rule: "Identities: a request that is repeated after its answer was lost counts once",
    edits: [{ file: AUTHORITY, find: '(verdict === "repeated" ? 0 : 1)', replace: "1" }],
    ...FOUND,
  },
  {
    name: "a use and its admission are two writes",
    rule: "Identities: a use of a token and the record of the name are one transaction",
    edits: [
      {
        file: AUTHORITY,
        find: "if (token !== undefined) conditions.push(versionOf(tokenKey, tokenItem));",
        replace: "",
      },
    ],
    ...FOUND,
  },
  {
    name: "a held name goes to another key",
    rule: "Identities: a token admits another key to a held name only if it names it, and it expired or was revoked",
    edits: [{ file: VERDICTS, find: "(isFree(held, wallMs) && isNamed)", replace: "isNamed" }],
    ...FOUND,
  },
  {
    name: "a revoked name is renewed",
    rule: "Identities: a revoked name is not renewed",
    edits: [
      { file: VERDICTS, find: "  if (held.isRevoked) throw refused(", replace: "  if (held.isRevoked && wallMs < 0) throw refused(" },
    ],
    ...FOUND,
  },
  {
    name: "a copied key renews",
    rule: "Identities: a key that was replaced renews nothing",
    edits: [
      {
        file: VERDICTS,
        find: "keyDigest === held.earlierKeys[0] && newKeyDigest === held.keyDigest",
        replace: "keyDigest === held.earlierKeys[0]",
      },
    ],
    ...FOUND,
  },
  {
    name: "the role comes from the request",
    rule: "Identities: the token decides the role",
    edits: [
      {
        file: AUTHORITY,
        find: "const { role, attestedBy } = outcome;",
        replace: 'const { attestedBy } = outcome;\n    const role = Reflect.get(request, "role") ?? outcome.role;',
      },
    ],
    ...FOUND,
  },
] as const;
