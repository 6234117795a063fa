/** Planted bugs of the DNS gateway (semantics.md, DNS). */
export const DNS_MUTANTS = [
  {
    name: "an alias counts outside its registrant's namespaces",
    rule: "DNS: an alias counts where its registrant may write",
    edits: [
      {
        file: "src/dns/views/catalog.ts",
        find: "judgedNames(claim.name).every((name) => isRightful(policies.policy, { ...claim, name }, identity.clusterId)) &&",
        replace: "",
      },
    ],
    withinSeeds: 10,
    isOfDns: true,
    isCheap: true,
  },
  {
    name: "a drained entry is shown",
    rule: "DNS: no record shows an entry in MAINTENANCE",
    edits: [
      { file: "src/dns/plan/subject.ts", find: "  return health !== HEALTH.MAINTENANCE;", replace: "  return health !== undefined;" },
    ],
    withinSeeds: 10,
    isOfDns: true,
    isCheap: true,
  },
  {
    name: "doubtful addresses beside healthy ones",
    rule: "DNS: addresses are those of the best tier",
    edits: [
      {
        file: "src/dns/records/shown.ts",
        find: "  return items.filter((item) => tierOf(item) === best);",
        replace: "  return items.filter((item) => tierOf(item) <= best + 1);",
      },
    ],
    withinSeeds: 10,
    isOfDns: true,
    isCheap: true,
  },
  {
    name: "the TTL of one entry for a set",
    rule: "DNS: a set has the least TTL of its entries",
    edits: [
      {
        file: "src/dns/records/ttl.ts",
        find: "  return Math.min(...entries.map(({ ttlMs }) => ttlSeconds(ttlMs, settings)));",
        replace: "  return ttlSeconds(entries[0]?.ttlMs, settings);",
      },
    ],
    withinSeeds: 10,
    isOfDns: true,
    isCheap: true,
  },
  {
    name: "a policy that nobody asked again",
    rule: "DNS: another policy in force ends every plan that rests on a verdict",
    edits: [
      {
        file: "src/dns/views/catalog.ts",
        find: "return replica.revision + reads.policyTurn + (elsewhere?.turn ?? 0);",
        replace: "return replica.revision + (elsewhere?.turn ?? 0);",
      },
    ],
    withinSeeds: 10,
    isOfDns: true,
    isCheap: true,
  },
  {
    name: "an alias is told to those who do not see its namespace",
    rule: "DNS: a viewer sees an alias only if they see both namespaces",
    edits: [{ file: "src/dns/views/catalog.ts", find: "this.#hiddenAbove(claim.name) === undefined;", replace: "true;" }],
    withinSeeds: 10,
    isOfDns: true,
    isCheap: true,
  },
] as const;
