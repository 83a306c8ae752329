DROP TABLE mesh.probe, mesh.node;
