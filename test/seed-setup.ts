/**
 * Generated tests run from one seed, so that a push is judged by what it changed: `WAYMARK_SEED=random` (nightly) or a
 * number runs another. What fails prints its seed and path. How many cases they play, where a test names no number, is in `effort.ts`.
 */
import fc from "fast-check";
import { runs } from "./fakes/effort.ts";

/** What fast-check plays by itself. */
const CASES = 100;

const asked = process.env["WAYMARK_SEED"] ?? "20261120";
fc.configureGlobal({ ...fc.readConfigureGlobal(), numRuns: runs(CASES), ...(asked === "random" ? {} : { seed: Number(asked) }) });
