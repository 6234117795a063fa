/** Planted bugs of leadership (semantics.md, Leadership). */
const MACHINE = "src/control/leadership/machine.ts";
const SESSION = "src/control/leadership/session.ts";

export const LEADER_MUTANTS = [
  {
    name: "a session name is used again",
    rule: "Leadership: a session name is created by one request only",
    edits: [{ file: SESSION, find: "    this.#count += 1;\n", replace: "" }],
    withinSeeds: 400,
    isOfLeaders: true,
  },
  {
    name: "a session is valid from the answer",
    rule: "Leadership: a holder acts for a part of a lease after it sent its last renewal",
    edits: [
      {
        file: SESSION,
        find: "this.#validUntilMs = sentMs + leaseMs * VALIDITY;",
        replace: "this.#validUntilMs = monoMs + leaseMs * VALIDITY;",
      },
    ],
    withinSeeds: 100,
    isOfLeaders: true,
    isCheap: true,
  },
  {
    name: "a takeover leaves the session",
    rule: "Leadership: a candidate deletes the session of a silent holder, on the version that it saw",
    edits: [
      {
        file: MACHINE,
        find: "    this.#deletionMs = NEVER;\n",
        replace:
          "    for (const copy of this.#sessions.values()) copy.items.delete(condition.key);\n    if (condition.version > 0) return;\n",
      },
    ],
    withinSeeds: 100,
    isOfLeaders: true,
    isCheap: true,
  },
  {
    name: "a holder acts again after a lost resign",
    rule: "Leadership: a holder that resigned never acts under that fence again",
    edits: [{ file: MACHINE, find: "      record.fence.number > stand.releasedNumber &&\n", replace: "" }],
    withinSeeds: 400,
    isOfLeaders: true,
  },
  {
    name: "an outage of the store counts as silence of holders",
    rule: "Leadership: when the store is back, holders have a third of a lease and two retries to renew their sessions",
    edits: [
      {
        file: MACHINE,
        find: "Math.max(sinceMs + leaseMs, this.#backMs + leaseMs / 3 + RETURN_MS)",
        replace: "sinceMs + leaseMs",
      },
    ],
    withinSeeds: 20,
    isOfLeaders: true,
    isCheap: true,
  },
  {
    name: "a delayed answer is no sign of an outage",
    rule: "Leadership: no answer for more than a third of a lease and 200 ms counts as an outage",
    edits: [{ file: MACHINE, find: "if (this.#isAway || this.#isLate(monoMs))", replace: "if (this.#isAway)" }],
    withinSeeds: 400,
    isOfLeaders: true,
  },
  {
    name: "a session that no watch has reported yet counts as ended",
    rule: "Leadership: a session has ended if it was absent after the record that names it was written",
    edits: [{ file: MACHINE, find: "if (prefix === key || copy.revision >= version) return", replace: "return" }],
    withinSeeds: 800,
    isOfLeaders: true,
  },
  {
    name: "a fence has an epoch that was raised meanwhile",
    rule: "Leadership: an election fails if the epoch of the store was raised meanwhile",
    edits: [{ file: MACHINE, find: "version: item?.version ?? 0 }, epoch], out);", replace: "version: item?.version ?? 0 }], out);" }],
    withinSeeds: 400,
    isOfLeaders: true,
  },
  {
    name: "records outlive the restore of an earlier store",
    rule: "Leadership: after the store was restored from a backup, nodes believe the store instead of their copies",
    edits: [
      {
        file: "src/control/leadership/copy.ts",
        find: "    const after = item && {",
        replace: "    if ((before?.version ?? 0) > version) return [];\n    const after = item && {",
      },
    ],
    withinSeeds: 100,
    isOfLeaders: true,
    isCheap: true,
  },
] as const;
