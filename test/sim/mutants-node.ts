/** Planted bugs of what joins the parts of a node: generations, leaving, warm start, disputed starts, clocks, readiness, and others' policies. */
export const NODE_MUTANTS = [
  {
    name: "a lost generation is written and not used",
    rule: "Restart: a node whose journal is older than what others know goes on under a new generation",
    edits: [
      {
        file: "src/node/core/generation-renewal.ts",
        find: "    startNewGeneration(this.#replica, generation);\n",
        replace: "    void startNewGeneration;\n",
      },
    ],
    withinSeeds: 12,
  },
  {
    name: "nobody is told of a new generation",
    rule: "Restart: what a node says of itself has the generation that it writes under",
    edits: [
      {
        file: "src/node/core/parts/list.ts",
        find: `core.writes.show(out);
        if (core.joined !== undefined) core.list.deliver({ kind: "facts", facts: core.facts() }, time, out);`,
        replace: "core.writes.show(out);",
      },
    ],
    withinSeeds: 12,
  },
  {
    name: "what another's word hides stays",
    rule: "Several origins: what another ended is ended by its own node, too",
    edits: [
      {
        file: "src/node/core/parts/writes.ts",
        find: "this.#endSuperseded(keys as readonly KeyText[], time, out),",
        replace: "void [keys, time, out],",
      },
    ],
    withinSeeds: 6,
    isCheap: true,
  },
  {
    name: "tombstones go by age whoever is away",
    rule: "Tombstones: dropped for their age only when nobody is away who may come back",
    edits: [{ file: "src/node/core.ts", find: 'this.#joined.fabric.mayCollect(time) ? "age" : "count"', replace: '"age"' }],
    withinSeeds: 6,
    isOfRestarted: true,
    isCheap: true,
  },
  {
    name: "the members are written down once",
    rule: "Tombstones: members that were there are away at the next start until they are met",
    edits: [
      {
        file: "src/node/core/roster-file.ts",
        find: "roster.version === this.#version",
        replace: "this.#version !== 0",
      },
    ],
    withinSeeds: 6,
    isOfRestarted: true,
  },
  {
    name: "others are not told what is newest here when a node begins",
    rule: "Policy: a node says which version is newest here before anything else",
    edits: [
      {
        file: "src/node/core/parts/list.ts",
        find: '      give({ kind: "policy", head: rooms.policies.place }, time, out);\n',
        replace: "      void rooms;\n",
      },
    ],
    withinSeeds: 12,
  },
  {
    name: "a policy that a full disk refuses is refused for good",
    rule: "Policy: what could not be stored is not refused, so that it is offered again",
    edits: [
      {
        file: "src/node/core/remote-policy.ts",
        find: "        return;\n      }\n",
        replace: '        return this.#list.deliver({ kind: "policyRefused", head, detail: outcome.notKept }, time, out);\n      }\n',
      },
    ],
    withinSeeds: 90,
  },
  {
    name: "who leaves something behind says that it leaves",
    rule: "Stop: what nobody took stands, and the node says that it restarts",
    edits: [{ file: "src/node/core/departure.ts", find: 'leftCount > 0 ? "restart" : "leave"', replace: '"leave"' }],
    withinSeeds: 6,
    isOfLeft: true,
  },
  {
    name: "nobody is told that a node left entries behind",
    rule: "Stop: its static entries stand as orphans for as long as its members know that it stopped so",
    edits: [{ file: "src/node/core/parts/list.ts", find: "keepsEntries: true", replace: "keepsEntries: false" }],
    withinSeeds: 6,
    isOfLeft: true,
    isCheap: true,
  },
  {
    name: "what comes back from a snapshot is new",
    rule: "Age: what was restored is as old as the snapshot",
    edits: [
      {
        file: "src/node/core/warm-start.ts",
        find: "  return monoMs - Math.max(0, wallMs - savedWallMs);",
        replace: "  return monoMs - Math.max(0, Math.min(0, wallMs - savedWallMs));",
      },
    ],
    withinSeeds: 30,
  },
  {
    name: "a snapshot that is out of date is said to be right",
    rule: "Restart: a file is only said to be right where nothing changed",
    edits: [
      { file: "src/node/core/snapshots.ts", find: "    if (fingerprint === this.#written)", replace: '    if (this.#written !== "")' },
    ],
    withinSeeds: 80,
  },
  {
    name: "a node is ready with its first tick",
    rule: "Ready: when it has caught up with a peer, or is alone",
    edits: [
      { file: "src/node/core/parts/readiness.ts", find: "(joined.readiness.isReady && !writeEligibility.isWaiting)", replace: "true" },
    ],
    withinSeeds: 6,
    isCheap: true,
  },
  {
    name: "a node that is ready is whole",
    rule: "Watch 3: END only from a node that holds everything",
    edits: [
      {
        file: "src/node/core/parts/readiness.ts",
        find: "this.isReady && this.#parts.fabric()?.isWhole !== false",
        replace: "this.isReady",
      },
    ],
    withinSeeds: 30,
  },
  {
    name: "nobody is woken when a node becomes whole",
    rule: "Watch 3: who waits for END is woken when it may be told",
    edits: [
      {
        file: "src/node/core/parts/readiness.ts",
        find: '      fanout.all();\n      out.push({ kind: "wake" });\n',
        replace: "",
      },
    ],
    withinSeeds: 50,
  },
  {
    name: "what changed is shown to nobody",
    rule: "Watch 2: a change wakes those whom it concerns",
    edits: [
      {
        file: "src/node/core/parts/writes.ts",
        find: "    fanout.changed(replica.takeTouched());\n",
        replace: "    replica.takeTouched();\n",
      },
    ],
    withinSeeds: 6,
    isCheap: true,
  },
  {
    name: "a node leaves though it is alone",
    rule: "Stop: a node keeps everything when no other member of its cluster is alive",
    edits: [{ file: "src/node/core/parts/list.ts", find: 'how === "leave" && joined.fabric.hasClusterPeers', replace: 'how === "leave"' }],
    withinSeeds: 5,
    isOfNode: true,
    isCheap: true,
  },
  {
    name: "a node that stops takes over what is offered",
    rule: "Stop: a stopping node takes nothing any more",
    edits: [
      {
        file: "src/node/core/parts/list.ts",
        find: "if (core.joined?.departure.hasBegun !== true) writes.takeOver",
        replace: "writes.takeOver",
      },
    ],
    withinSeeds: 16,
    isOfNode: true,
    isCheap: true,
  },
  {
    name: "a standstill is not noticed",
    rule: "Two nodes with one id: after a standstill no write is acknowledged before others have answered",
    edits: [
      {
        file: "src/node/core/write-eligibility.ts",
        find: "return lagMs >= LEAST_MS ? lagMs : undefined;",
        replace: "return lagMs < -1e9 ? LEAST_MS : undefined;",
      },
    ],
    withinSeeds: 5,
    isOfCopies: true,
    isCheap: true,
  },
  {
    name: "watches go on at a refused start",
    rule: "Two nodes with one id: the watches of a node that is told of another start end with a cursor",
    edits: [
      {
        file: "src/node/core/parts/list.ts",
        find: "if (look.isLost === true && isReady) readiness.endWatches(out);",
        replace: "void readiness;",
      },
    ],
    withinSeeds: 5,
    isOfCopies: true,
    isCheap: true,
  },
  {
    name: "a node that was refused keeps its generation",
    rule: "Two nodes with one id: a node that was refused for 5 s and is then accepted takes a new generation",
    edits: [
      {
        file: "src/node/core/parts/list.ts",
        find: 'if (look.isContested === true) list.deliver({ kind: "generationLost", peerNodeId: "", seq: 0 }, time, out);',
        replace: "void list;",
      },
    ],
    withinSeeds: 5,
    isOfCopies: true,
    isCheap: true,
  },
  {
    name: "a node that stood still acknowledges at once",
    rule: "Two nodes with one id: after a standstill no write is acknowledged before others have answered",
    edits: [
      {
        file: "src/node/core/parts/writes.ts",
        find: "    if (this.#unconfirmed.length > 0 || (settled.refusal === undefined && this.#parts.mustConfirm(time))) this.#unconfirmed.push(settled);\n    else this.#push(settled, out);",
        replace: "    void time;\n    this.#push(settled, out);",
      },
    ],
    withinSeeds: 5,
    isOfCopies: true,
    isCheap: true,
  },
  {
    name: "a refused start acknowledges what was on its way to the disk",
    rule: "Two nodes with one id: a write that others do not take is not acknowledged",
    edits: [
      { file: "src/node/core/parts/writes.ts", find: "settled.refusal === undefined && refusal !== undefined ?", replace: "false ?" },
    ],
    withinSeeds: 5,
    isOfCopies: true,
    isCheap: true,
  },
  {
    name: "a refused start takes writes",
    rule: "Two nodes with one id: a node that is told of another start takes no writes",
    edits: [
      {
        file: "src/node/core/write-eligibility.ts",
        find: "  checkWrites(): void {\n    this.checkStart();\n",
        replace: "  checkWrites(): void {\n",
      },
    ],
    withinSeeds: 5,
    isOfCopies: true,
    isCheap: true,
  },
  {
    name: "a clock that is ahead stops no writes",
    rule: "Several origins: a node whose clock is off takes no writes",
    edits: [{ file: "src/node/core/write-eligibility.ts", find: "    this.#clock.check();\n", replace: "" }],
    withinSeeds: 6,
    isOfNode: true,
    isCheap: true,
  },
  {
    name: "a start takes writes before it has heard other clocks",
    rule: "Several origins: a start takes no writes before others have said what their clocks are",
    edits: [
      {
        file: "src/node/core/write-eligibility.ts",
        find: 'this.#fault = off === "" && this.#mustCompare(membership, clock, time) ? COMPARING : off;',
        replace: "this.#fault = off;\n    void [this.#mustCompare, COMPARING];",
      },
    ],
    withinSeeds: 6,
    isOfNode: true,
    isCheap: true,
  },
  {
    name: "a node with a clock that is ahead serves",
    rule: "Ready: not while this node's clock is off",
    edits: [
      {
        file: "src/node/core/parts/readiness.ts",
        find: "this.isSound && !this.isDraining",
        replace: "this.isReady && !this.isDraining",
      },
    ],
    withinSeeds: 6,
    isOfNode: true,
    isCheap: true,
  },
  {
    name: "a node that has caught up and waits for clocks tells the age of its peers",
    rule: "Age: a node that is not ready is as old as what it started with",
    edits: [
      {
        file: "src/node/core.ts",
        find: "return this.readiness.isReady ? fabric.readiness.read(time).ageMs : fabric.readiness.startAgeMs(time);",
        replace: "return fabric.readiness.read(time).ageMs;",
      },
    ],
    withinSeeds: 7,
    isOfNode: true,
    isCheap: true,
  },
  {
    name: "absences begin anew with each start",
    rule: "Restart: origins that were away already are away since then",
    edits: [
      {
        file: "src/node/core/warm-start.ts",
        find: "  lifecycle.resume(absent, over, monoMs + joinTimeoutMs);",
        replace: "  void [lifecycle, absent, over, joinTimeoutMs];",
      },
    ],
    withinSeeds: 5,
    isOfNode: true,
    isCheap: true,
  },
  {
    name: "a generation that was replaced stays on the disk",
    rule: "Restart: a node that replaces its generation keeps the new one",
    edits: [
      {
        file: "src/node/core/rooms.ts",
        find: "renewed, row: (row)",
        replace: "renewed: undefined, row: (row)",
      },
    ],
    withinSeeds: 5,
    isOfNode: true,
    isCheap: true,
  },
  {
    name: "own news waits for the next round",
    rule: "Replication: own records are pushed at once",
    edits: [
      {
        file: "src/fabric/replication/link-replication.ts",
        find: "    return Math.min(this.#replicator.edgeDueMonoMs, look);",
        replace: "    return look;",
      },
    ],
    withinSeeds: 5,
    isOfNode: true,
    isCheap: true,
  },
] as const;
