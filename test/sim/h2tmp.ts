import { runSeed } from "./run-seed.ts";
const [from, n] = process.argv.slice(2).map(Number);
for (let s = from!; s < from! + n!; s++) { const o = runSeed(s); if (o.violation !== undefined) console.log(s, o.violation.invariant, o.violation.message.slice(0, 160).replaceAll("\n", ";")); }
