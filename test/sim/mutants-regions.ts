/** Planted bugs of regions and summaries (docs/design/summaries.md). */
export const REGION_MUTANTS = [
  {
    name: "a version is a time",
    rule: "Summaries, identity and order: no clock decides after the first version",
    edits: [
      {
        file: "src/summary/held/saying.ts",
        find: "const version = known === 0 ? Math.max(1, Math.floor(time.wallMs / 1000)) : known + 1;",
        replace: "const version = Math.max(1, known - known + Math.floor(time.wallMs / 1000));",
      },
    ],
    withinSeeds: 30,
    isOfRegions: true,
  },
  {
    name: "a beacon counts by its time",
    rule: "Liveness: a beacon counts when its version is higher than the last",
    edits: [
      {
        file: "src/summary/held/sources.ts",
        find: "    if (version <= source.beaconVersion) return;",
        replace: "    if (generatedWallMs <= source.generatedWallMs) return;",
      },
    ],
    withinSeeds: 30,
    isOfRegions: true,
  },
  {
    name: "the newest stamp of a key counts",
    rule: "Summaries, in a region: the view of a key is the highest version, not the newest stamp",
    edits: [
      {
        file: "src/summary/held/taking.ts",
        find: '    if (version < this.#keeping.highest(key, tag, time)) return "older";\n    const best = this.#keeping.best(key);\n',
        replace:
          '    const best = this.#keeping.best(key);\n    const before = best === undefined ? undefined : this.#keeping.contentOf(best);\n    const isEarlier =\n      content.what === "summary" && before?.what === "summary" && content.summary.generatedWallMs < before.summary.generatedWallMs;\n    if (isEarlier || version < this.#keeping.highest(key, tag, time)) return "older";\n',
      },
    ],
    withinSeeds: 30,
    isOfRegions: true,
  },
  {
    name: "a service is said whenever it changes",
    rule: "Hold-down: all but first sight and withdrawal by policy goes once a service and hold-down",
    edits: [
      {
        file: "src/summary/building/builder.ts",
        find: "Math.max(monoMs, service.countedMonoMs + this.#options.holdDownMs)",
        replace: "monoMs",
      },
      {
        file: "src/summary/building/builder.ts",
        find: '(cause === "measured" ? Math.max(holdDownMs, exportIntervalMs) : holdDownMs);',
        replace: '(cause === "measured" ? Math.max(holdDownMs, exportIntervalMs) : 0);',
      },
    ],
    withinSeeds: 30,
    isOfRegions: true,
  },
  {
    name: "a withdrawal is forgotten too early",
    rule: "Withdrawals are remembered for ttl + stale_keep + twice the skew",
    edits: [
      {
        file: "src/summary/held/options.ts",
        find: "return ttlMs + staleKeepMs + 2 * maxClockSkewMs;",
        replace: "return ttlMs + staleKeepMs + maxClockSkewMs;",
      },
    ],
    withinSeeds: 30,
    isOfRegions: true,
  },
  {
    name: "no signature is verified",
    rule: "Bytes travel as they were made: readers believe only what is rightly signed",
    edits: [
      {
        file: "src/signing/key-registry.ts",
        find: 'return isSignedBy(key, context, { signed, signature }) ? undefined : "bad_signature";',
        replace: 'return isSignedBy(key, context, { signed, signature }) || true ? undefined : "bad_signature";',
      },
    ],
    withinSeeds: 30,
    isOfRegions: true,
  },
  {
    name: "a key of the message is believed",
    rule: "Authority: keys of a cluster are what we configured",
    edits: [
      {
        file: "src/signing/key-registry.ts",
        find: "const key = this.#clusters.get(cluster)?.keyAt(keyId, wallMs);",
        replace: "const owner = this.#configured.get(keyId) ?? cluster;\n    const key = this.#clusters.get(owner)?.keyAt(keyId, wallMs);",
      },
    ],
    withinSeeds: 30,
    isOfRegions: true,
  },
  {
    name: "a region of the message is believed",
    rule: "Authority: the region of a cluster is what we configured",
    edits: [
      {
        file: "src/summary/held/judge.ts",
        find: 'return regions.every((each) => each === region) ? undefined : "not_owner";',
        replace: 'return regions.length >= 0 ? undefined : "not_owner";',
      },
    ],
    withinSeeds: 30,
    isOfRegions: true,
  },
  {
    name: "a window's end binds only while its source is fresh",
    rule: "Lost is stale: not_after binds all, stale or not",
    edits: [
      {
        file: "src/summary/held/keeping.ts",
        find: "this.#isOver(stored, source) || this.ends.isOver(key)) return false;",
        replace: 'this.#isOver(stored, source) || (source.state === "fresh" && this.ends.isOver(key))) return false;',
      },
      {
        file: "src/summary/held/keeping.ts",
        find: '    if ((stored.finding & FINDING.NO_STALE) !== 0 && source.state !== "fresh") return false;\n',
        replace: "",
      },
    ],
    withinSeeds: 30,
    isOfRegions: true,
  },
  {
    name: "what is lost is gone",
    rule: "Lost is stale, not gone",
    edits: [
      {
        file: "src/summary/held/sources.ts",
        find: 'return ageMs < ttlMs + this.#options.staleKeepMs ? "stale" : "dropped";',
        replace: 'return ageMs < ttlMs + this.#options.staleKeepMs - this.#options.staleKeepMs ? "stale" : "dropped";',
      },
    ],
    withinSeeds: 30,
    isOfRegions: true,
  },
  {
    name: "what a lost link brought is gone",
    rule: "Lost is stale, not gone: a link that is lost ends nothing",
    edits: [
      {
        file: "src/node/core/regions/summaries.ts",
        find: "      return new Set(counts.filter(({ links }) => links > 0).map(({ region }) => region));\n",
        replace: `      const linked = new Set(counts.filter(({ links }) => links > 0).map(({ region }) => region));
      const isShown = (_, region) => region === this.#options.region || linked.has(region);
      const isOther = linkedRegions.before !== undefined && linkedRegions.before.size !== linked.size;
      linkedRegions.before = linked;
      if (isOther) this.held.exportsChanged(new Map([[this.#options.clusterId, isShown]]));
      return linked;
`,
      },
    ],
    withinSeeds: 30,
    isOfRegions: true,
  },
  {
    name: "a start makes a lost source fresh",
    rule: "Liveness: the receipt's age goes along when a node starts or joins",
    edits: [
      {
        file: "src/summary/held/sources.ts",
        find: "    const receiptMonoMs = time.monoMs - ageMs;\n    if (source === undefined) return;",
        replace:
          "    const receiptMonoMs = source?.isHeard === true ? time.monoMs - ageMs : time.monoMs;\n    if (source === undefined) return;",
      },
    ],
    withinSeeds: 30,
    isOfRegions: true,
  },
  {
    name: "a band turns at its edge both ways",
    rule: "Counts and bands: going up takes 5 points more",
    edits: [
      {
        file: "src/summary/building/band.ts",
        find: "before !== undefined && before > band ? UP_PERCENT : 0",
        replace: "before !== undefined && before > band ? 0 * UP_PERCENT : 0",
      },
    ],
    withinSeeds: 30,
    isOfRegions: true,
  },
  {
    name: "what is not imported is in no digest",
    rule: "Across borders: import rules hide; they never touch digests",
    edits: [
      {
        file: "src/summary/held/keeping.ts",
        find: "const sign = isOver || (best !== undefined && isWithdrawn(best)) ? -1 : 1;",
        replace: "const sign = isOver || (best !== undefined && (isWithdrawn(best) || !this.isVisible(best, source.id))) ? -1 : 1;",
      },
    ],
    withinSeeds: 30,
    isOfRegions: true,
  },
  {
    name: "a node without a replica of summaries is told them",
    rule: "In a region: summaries are told only to peers whose hello says so",
    edits: [
      {
        file: "src/fabric/summaries/channel.ts",
        find: "if (!greeted.hello.holdsSummaries) return undefined;",
        replace: "if (greeted.border !== undefined) return undefined;",
      },
    ],
    withinSeeds: 30,
    isOfRegions: true,
  },
  {
    name: "an exporter need not be ready",
    rule: "Exporter: only who is ready and in step counts the whole",
    edits: [
      {
        file: "src/node/core/regions/summaries.ts",
        find: ' || !isReady) return "silent";',
        replace: ') return "silent";',
      },
      {
        file: "src/node/core/regions/summaries.ts",
        find: "return monoMs - this.#inStepMonoMs > IN_STEP_MS || ",
        replace: "return monoMs < 0 * (this.#inStepMonoMs + IN_STEP_MS) || ",
      },
    ],
    withinSeeds: 30,
    isOfRegions: true,
  },
  {
    name: "a part is told for the whole",
    rule: "Exporter: a node that protects orphans may see a part, and sends no lower count and no worse band",
    edits: [
      {
        file: "src/node/core/regions/summaries.ts",
        find: "return fabric?.lifecycle.protectedClusters().includes(this.#options.clusterId) === true;",
        replace: 'return fabric?.lifecycle.protectedClusters().includes("") === true;',
      },
    ],
    withinSeeds: 30,
    isOfRegions: true,
  },
  {
    name: "own summaries are taken from outside",
    rule: "Own summaries are refused when they come from outside",
    edits: [
      {
        file: "src/summary/held/taking.ts",
        find: "if (claims.source === options.clusterId) return",
        replace: 'if (claims.source === "" && options.clusterId !== "") return',
      },
    ],
    withinSeeds: 30,
    isOfRegions: true,
  },
  {
    name: "a withdrawal is sent to nobody",
    rule: "Across borders go the newest versions, and withdrawals wait for no window",
    edits: [
      {
        file: "src/fabric/borders/outbox.ts",
        find: "      this.#urgent.set(key, this.#urgent.get(key) ?? monoMs);\n",
        replace: "",
      },
    ],
    withinSeeds: 30,
    isOfRegions: true,
  },
  {
    name: "support without distance",
    rule: "Narrowed export rules: what was told counts one border further, so words that go in a circle of regions end",
    edits: [
      {
        file: "src/fabric/borders/rules/reach.ts",
        find: "row.hops < MAX_HOPS ? [{ ...row, via, hops: row.hops + 1 }] : []",
        replace: "row.hops < MAX_HOPS ? [{ ...row, via }] : []",
      },
    ],
    withinSeeds: 30,
    isOfRegions: true,
  },
  {
    name: "records cross the edge of a region",
    rule: "A region is one gossip domain: members and records never cross its edge (P1)",
    edits: [
      {
        file: "src/fabric/links/foreign-peers.ts",
        find: "    if (place.region !== region)\n",
        replace: "    if (place.region !== region && place.clusterId === clusterId)\n",
      },
    ],
    withinSeeds: 30,
    isOfRegions: true,
  },
] as const;
