/** Planted bugs of the DNS gateway (semantics.md, DNS). */
export const DNS_MUTANTS = [
  {
    name: "an alias counts outside its registrant's namespaces",
    rule: "DNS: an alias counts where its registrant may write",
    edits: [
      {
        file: "src/dns/views/catalog.ts",
        find: "isClaimRightful(claim, policies.policy, identity.clusterId) &&",
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
      {
        file: "src/dns/subject/subject.ts",
        find: "  return !isDrained(entry);",
        replace: "  return entry !== undefined || isDrained(entry);",
      },
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
        file: "src/consumer/health-tiers.ts",
        find: "  return items.filter((_, at) => tiers[at] === best);",
        replace: "  return items.filter((_, at) => (tiers[at] ?? 0) <= best + 1);",
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
        file: "src/dns/records/record.ts",
        find: "  return Math.min(\n    ...entries.map(",
        replace: "  return Math.max(\n    ...entries.map(",
      },
    ],
    withinSeeds: 10,
    isOfDns: true,
    isCheap: true,
  },
  {
    name: "an orphan is kept as long as others",
    rule: "DNS: a set with an ORPHANED entry has a TTL of at most dns.stale_ttl",
    edits: [
      {
        file: "src/dns/records/record.ts",
        find: "health === HEALTH.ORPHANED ? Math.min(own, stale) : own;",
        replace: "health === undefined ? stale : own;",
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
      { file: "src/dns/views/catalog.ts", find: "2 * reads.policyRevision + (remoteLookup?.isCutOff", replace: "(remoteLookup?.isCutOff" },
    ],
    withinSeeds: 10,
    isOfDns: true,
    isCheap: true,
  },
  {
    name: "an alias is told to those who do not see its namespace",
    rule: "DNS: a viewer sees an alias only if they see both namespaces",
    edits: [
      {
        file: "src/dns/views/catalog.ts",
        find: "  #hiddenAbove(name: string): string | undefined {\n",
        replace: '  #hiddenAbove(name: string): string | undefined {\n    if (name !== "") return undefined;\n',
      },
    ],
    withinSeeds: 10,
    isOfDns: true,
    isCheap: true,
  },
  {
    name: "an answer outlives its entries",
    rule: "DNS: a plan ends when something changes on which it rests",
    edits: [{ file: "src/dns/subject/dependency-index.ts", find: "    this.#over(`=${name}`);\n", replace: "" }],
    withinSeeds: 10,
    isOfDns: true,
    isCheap: true,
  },
  {
    name: "an absence outlives a name below",
    rule: "DNS: a plan ends when something changes on which it rests",
    edits: [{ file: "src/dns/subject/dependency-index.ts", find: "    this.#over(belowDependency(suffix));\n", replace: "" }],
    withinSeeds: 10,
    isOfDns: true,
    isCheap: true,
  },
  {
    name: "an answer outlives an alias",
    rule: "DNS: a plan ends when something changes on which it rests",
    edits: [{ file: "src/dns/subject/dependency-index.ts", find: "    this.#over(aliasDependency(alias));\n", replace: "" }],
    withinSeeds: 10,
    isOfDns: true,
    isCheap: true,
  },
  {
    name: "a scope of 0 in a view of a subnet",
    rule: "DNS: the scope that is told is the length of the prefix within which everybody has the view",
    edits: [
      {
        file: "src/dns/server/responder.ts",
        find: "query.subnet === undefined || query.subnet.sourcePrefix === 0 ? 0 : (selected.scopePrefix ?? 0);",
        replace: "0;",
      },
    ],
    withinSeeds: 10,
    isOfDns: true,
    isCheap: true,
  },
  {
    name: "an absence in a view of a subnet is kept",
    rule: "DNS: a negative answer in a view that a client subnet chose has a TTL of 0",
    edits: [{ file: "src/dns/server/responder.ts", find: "facts.isUncached = selected.isBySubnet;", replace: "facts.isUncached = false;" }],
    withinSeeds: 10,
    isOfDns: true,
    isCheap: true,
  },
  {
    name: "a cut answer that does not say so",
    rule: "DNS: a set is whole, or TC is set",
    edits: [{ file: "src/dns/wire/response.ts", find: "(this.isTruncated ? 0x0200 : 0)", replace: "0" }],
    withinSeeds: 10,
    isOfDns: true,
    isCheap: true,
  },
  {
    name: "records are signed in the order that they have",
    rule: "DNS: each set of a signed answer has a signature of its canonical form",
    edits: [{ file: "src/dns/records/canonical.ts", find: ".toSorted((a, b) => Buffer.compare(a, b));", replace: ".toReversed();" }],
    withinSeeds: 10,
    isOfDns: true,
    isCheap: true,
  },
  {
    name: "a denial of what is there",
    rule: "DNS: a denial has the types that exist there",
    edits: [
      {
        file: "src/dns/plan/answer.ts",
        find: "const types = [...own, RECORDS.RRSIG.code",
        replace: "const types = [...own.slice(1), RECORDS.RRSIG.code",
      },
    ],
    withinSeeds: 10,
    isOfDns: true,
    isCheap: true,
  },
  {
    name: "a serial that goes back with the clock",
    rule: "DNS: the serial of the zone never goes back",
    edits: [
      { file: "src/dns/views/zone-versions.ts", find: "isNewer(seconds, last) ? seconds : (last + 1) % SERIALS;", replace: "seconds;" },
    ],
    withinSeeds: 10,
    isOfDns: true,
    isCheap: true,
  },
  {
    name: "NXDOMAIN before the node is ready",
    rule: "DNS: until a node knows the catalog it answers SERVFAIL",
    edits: [{ file: "src/node/dns/selection.ts", find: "    checkCaughtUp();\n", replace: "" }],
    withinSeeds: 10,
    isOfDns: true,
    isCheap: true,
  },
  {
    name: "what is hidden is told by the response code",
    rule: "DNS: a name that is hidden and one that is absent get the same answer",
    edits: [
      {
        file: "src/dns/views/catalog.ts",
        find: "const view = { sees: reads.allowed(this.#viewer), counts: this.#counts, seesName, viewerClass: this.#viewerClassNow };",
        replace: "const view = { sees: () => true, counts: this.#counts, seesName: () => true };",
      },
    ],
    withinSeeds: 10,
    isOfDns: true,
    isCheap: true,
  },
  {
    name: "what is hidden is told by the TTL of its absence",
    rule: "DNS: a name that is hidden and one that is absent get the same answer",
    edits: [
      {
        file: "src/dns/plan/answer.ts",
        find: "return absentPlan(question, subject, { groups, context });",
        replace:
          "return absentPlan(question, subject, { groups, context: catalog.takeHidden().length > 0 ? { ...context, settings: { ...settings, negativeTtlMs: 1000 } } : context });",
      },
    ],
    withinSeeds: 10,
    isOfDns: true,
    isCheap: true,
  },
  {
    name: "what is hidden is in the list of services",
    rule: "DNS: hidden namespaces have no lists",
    edits: [
      {
        file: "src/dns/views/catalog.ts",
        find: "    if (!reads.verdict(this.#viewer, namespace).allowed) {\n      this.#notes.hidden.add(namespace);\n      return { items: [], isCut: false };\n    }\n",
        replace: "",
      },
    ],
    withinSeeds: 10,
    isOfDns: true,
    isCheap: true,
  },
] as const;
