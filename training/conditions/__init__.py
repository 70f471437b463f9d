"""Conditions: how well a network keeps its scores in noise, blur, weather, poor light, occlusion and other views."""
