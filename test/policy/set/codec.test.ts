import { create, fromBinary, fromJson, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { NamespacePolicySchema, PolicySetSchema, StageSchema } from "../../../gen/waymark/policy/v1/policy_pb.js";
import { decodePolicySet, decodeStage, encodePolicySet, encodeStage } from "../../../src/policy/set/codec.ts";
import { type PolicyProblem, PolicyProblems, validate } from "../../../src/policy/set/validation.ts";
import { someSet } from "../../fakes/policies.ts";

test("a set comes back from the wire as it was", () => {
  fc.assert(
    fc.property(someSet, (any) => {
      const wire = fromBinary(PolicySetSchema, toBinary(PolicySetSchema, encodePolicySet(any, 7)));
      expect(wire.number).toBe(7n);
      const problems = new PolicyProblems<PolicyProblem>();
      expect({ set: decodePolicySet(wire, problems), problems: problems.list }).toEqual({ set: any, problems: [] });
    }),
  );
});

test("what only the wire can get wrong is a problem with its path, beside those of validate", () => {
  // Written as JSON: the types of the wire do not have what the wire may hold.
  const wire = create(PolicySetSchema, {
    rules: [
      fromJson(NamespacePolicySchema, {
        namespace: "a",
        exportScopes: [0, 99],
        cutoverWindows: [{}, { startsAt: "2026-01-01T00:00:00Z" }, { startsAt: "1970-01-01T00:00:01.001999Z" }],
        quota: { bytes: `${2n ** 60n}` },
      }),
    ],
  });
  const [, late] = wire.rules[0]?.cutoverWindows ?? [];
  if (late?.startsAt !== undefined) late.startsAt.seconds = 10n ** 17n;
  const problems = new PolicyProblems<PolicyProblem>();
  const set = decodePolicySet(wire, problems);
  expect(problems.list.map(({ path, severity }) => `${severity} ${path}`)).toEqual([
    "error rules[0].cutover_windows[0].starts_at",
    "error rules[0].quota.bytes",
  ]);
  expect(validate(set).map(({ path }) => path)).toEqual([
    "rules[0].export_scopes[0]",
    "rules[0].export_scopes[1]",
    "rules[0].cutover_windows[1].starts_at",
  ]);
  expect(set.rules[0]?.cutoverWindows[2]?.startsWallMs).toBe(1001);
});

test("a stage comes back from the wire as it was; one that says nothing is refused", () => {
  const stages = [undefined, { by: "percent", percent: 10 }, { by: "clusters", clusterIds: ["eu-1"] }] as const;
  for (const stage of stages) expect(decodeStage(encodeStage(stage))).toEqual(stage);
  expect(() => decodeStage(create(StageSchema, {}))).toThrow("stage.by: is empty");
  expect(() => decodeStage(create(StageSchema, { by: { case: "clusters", value: { clusterIds: ["a", "b c"] } } }))).toThrow(
    "stage.clusters.cluster_ids[1]",
  );
});
