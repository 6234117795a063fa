/**
 * Generated tests run from one seed, so that a push is judged by what it changed: `WAYMARK_SEED=random` (nightly) or a
 * number runs another. What fails prints its seed and path.
 */
import fc from "fast-check";

const asked = process.env["WAYMARK_SEED"] ?? "20261120";
if (asked !== "random") fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: Number(asked) });
