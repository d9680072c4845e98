// Builds static/ from src/: `npm ci && npm run build` in bridges/web. The result is committed, so that nobody needs
// Node to run the stage.

import { createHash } from "node:crypto";
import { copyFileSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const source = dirname(fileURLToPath(import.meta.url));
const root = dirname(source);
const output = join(root, "static");

// What the bundle was built from; tests/bridges/web/test_page_files.py holds the committed bundle to it.
const digest = createHash("sha256");
const inputs = readdirSync(source).filter((name) => !name.endsWith(".test.js")).sort();
for (const name of inputs) digest.update(`${name}\n`).update(readFileSync(join(source, name), "utf8").replaceAll("\r\n", "\n"));

await build({
  entryPoints: [join(source, "app.js"), join(source, "style.css")],
  outdir: output,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2020",
  legalComments: "eof",
  banner: { js: `// Built by src/build.mjs; sources ${digest.digest("hex").slice(0, 16)}` },
});
for (const name of ["index.html", "icon.svg"]) copyFileSync(join(source, name), join(output, name));

const three = JSON.parse(readFileSync(join(root, "node_modules/three/package.json"), "utf8")).version;
writeFileSync(
  join(output, "LICENSES.txt"),
  `app.js contains three.js ${three} (https://threejs.org), under this licence:

${readFileSync(join(root, "node_modules/three/LICENSE"), "utf8").trim()}

----------------------------------------------------------------------

figure.glb is a MakeHuman base mesh (http://www.makehumancommunity.org), released under CC0 1.0 Universal
(https://creativecommons.org/publicdomain/zero/1.0/): its makers have waived all rights.

----------------------------------------------------------------------

The rest of the web stage is part of Pas de Deux, Apache-2.0.
`,
);
