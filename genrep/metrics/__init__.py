"""What is measured, thin over reference implementations; every figure is a plain float, heavy imports wait until used."""
