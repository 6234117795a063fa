/** P3 where frames are cut: readers that roam among nodes of which some have less of an origin than their vector says. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { BODY } from "../../src/catalog/record/record.ts";
import { settledOf } from "../../src/catalog/record/stored-record.ts";
import { runs } from "../fakes/effort.ts";
import { timeOf } from "../fakes/history.ts";
import { FabricComponent, KEYS } from "../fakes/mesh.ts";
import { type Policy, Readers, Stream } from "../fakes/stream.ts";

/** One node changes a few keys over and over; two others hear of it in frames of one or two records, and a reader roams. */
const turn = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("put" as const), key: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("end" as const), key: fc.nat(3) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("copy" as const), to: fc.nat(1), frames: fc.integer({ min: 1, max: 3 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("relay" as const), to: fc.nat(1), frames: fc.integer({ min: 1, max: 3 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("drain" as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("move" as const), to: fc.nat(1) }) },
);

test("P3 among cut frames: at every END and bookmark a roaming reader holds what the query says", () => {
  let cutCount = 0;
  fc.assert(
    fc.property(fc.array(turn, { minLength: 10, maxLength: 40, size: "max" }), (turns) => {
      const [a, b, c] = ["n1", "n2", "n3"].map((id) => new FabricComponent(id)) as [FabricComponent, FabricComponent, FabricComponent];
      const others = [b, c] as const;
      const policy: Policy = { denied: new Set(), epoch: 0 };
      const stream = new Stream(0, b, new Readers(policy), policy, timeOf(0, 0));
      let clock = 0;
      turns.forEach((step, i) => {
        // A bookmark is due at each drain; all of it is over before a node gives up waiting for the rest.
        clock += step.kind === "drain" ? 11 : 1;
        const time = timeOf(clock, 0);
        switch (step.kind) {
          case "put":
            a.put(KEYS[step.key]!, i, time);
            a.commit(time);
            break;
          case "end":
            if (a.end(KEYS[step.key]!, BODY.EXPIRED, time)) a.commit(time);
            break;
          case "copy":
            others[step.to]!.copy(a, "n1/1", time, 1, step.frames);
            break;
          case "relay":
            others[step.to]!.copy(others[1 - step.to]!, "n1/1", time, 1, step.frames);
            break;
          case "drain":
            while (stream.pull(time, 1000, true));
            break;
          case "move":
            stream.reconnect(others[step.to]!, time, "portable");
        }
        for (const { replica } of others) {
          const origin = replica.origins.get("n1/1");
          if (origin !== undefined && settledOf(origin) < origin.through) cutCount += 1;
        }
      });
    }),
    { numRuns: runs(400) },
  );
  expect(cutCount).toBeGreaterThan(runs(1000));
});
